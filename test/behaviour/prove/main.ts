// npm run prove -- [--rounds N] [--seed S]: what the product promises, while everything around it goes wrong.
import { parseArgs } from "node:util";

import { prove } from "./prove.ts";

const REPORT_EVERY = 50;

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "1000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
  },
});
const rounds = Number(values.rounds);
const seed = Number(values.seed);
if (!Number.isSafeInteger(rounds) || rounds < 1 || !Number.isSafeInteger(seed)) {
  console.error("Usage: npm run prove -- [--rounds N] [--seed S], both whole numbers");
  process.exit(64);
}

console.log(`seed ${seed}, ${rounds} rounds`);
let told = 0;
const startedAt = performance.now();
const { counts, excused, violations, skipped, kept } = await prove({
  rounds,
  seed,
  onRound(done, wrong) {
    while (told < wrong.length) console.error(`\n${wrong[told++]}`);
    if (done % REPORT_EVERY === 0) console.log(`${seconds()}  ${done} rounds, ${wrong.length} violations`);
  },
});
console.log(`\n${seconds()}  seed ${seed}`);
for (const what of skipped) console.log(`skipped  ${what}`);
for (const [what, n] of [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
  console.log(`${String(n).padStart(8)}  ${what}`);
}
const judged = counts.get("runs judged") ?? 0;
console.log(`\nAccepted because of a harm, of ${judged} runs that were judged:`);
for (const [what, n] of [...excused].toSorted(([, a], [, b]) => b - a)) {
  console.log(`${String(n).padStart(8)}  ${((100 * n) / judged).toFixed(2).padStart(5)} %  ${what}`);
}
console.log(`\n${String(violations.length).padStart(8)}  violations`);
for (const violation of violations.slice(told)) console.error(`\n${violation}`);
if (kept.length > 0) console.error(`\nKept for a closer look: ${kept.join(", ")}`);
process.exit(violations.length === 0 ? 0 : 1);

function seconds(): string {
  return `${Math.round((performance.now() - startedAt) / 1000)} s`;
}
