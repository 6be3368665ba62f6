// adapters/doctor/ is the program that checks an installation. Belongs here: checks (checks/), trials against a scratch Hub,
// and how results are printed. It sees the host-agent through host-agent/inspection.ts, config.ts, protocol/ and system/,
// a Hub through hub-calls.ts only, and may import handlers/ and the settings of adapters/node/.
import { parseArgs } from "node:util";

import { examine } from "./examine.ts";
import type { Result } from "./finding.ts";

const HELP = `Usage: npm run doctor [-- options]

Checks this installation, with the environment variables of the server, and tries out in a scratch folder what the
product promises. It changes nothing. Run it as the user of the service.

  --checks-only   Skip the trials
  --json          Print one JSON document instead of a list
  --help          Show this

Exit code: 0 nothing failed (warnings, marked !, are allowed); 1 something failed; 64 the command line is wrong.`;

const EX_USAGE = 64; // sysexits(3)
const MARKS = { pass: "✓", warn: "!", fail: "✗" } as const;

const options = readOptions();
if (options === undefined) process.exitCode = EX_USAGE;
else if (options.help) console.log(HELP);
else await diagnose(options);

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        "checks-only": { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\nTry: npm run doctor -- --help`);
    return undefined;
  }
}

async function diagnose({ json, "checks-only": checksOnly }: { json: boolean; "checks-only": boolean }) {
  const results = await examine(process.env, { trials: !checksOnly });
  const ok = results.every(({ status }) => status !== "fail");
  console.log(
    json ? JSON.stringify({ ok, results }) : [...results.map(describe), summary(results)].join("\n"),
  );
  process.exitCode = ok ? 0 : 1;
}

function describe({ name, status, says, advice }: Result): string {
  return `${MARKS[status]} ${name}: ${says}${advice === undefined ? "" : `\n    ${advice}`}`;
}

function summary(results: readonly Result[]): string {
  const count = (status: Result["status"]) => results.filter((result) => result.status === status).length;
  const warnings = count("warn");
  return `\n${count("pass")} passed, ${warnings} ${warnings === 1 ? "warning" : "warnings"}, ${count("fail")} failed`;
}
