import { parseArgs } from "node:util";

import { examine } from "./examine.ts";
import type { Result } from "./finding.ts";

const HELP = `Usage: npm run doctor [-- options]

Looks at this installation, with the environment variables of the server, and tries out in a scratch folder what the
product promises. It changes nothing. Run it as the user of the service.

  --checks-only   Leave the trials out
  --json          One JSON document instead of a list
  --help          Show this

Exit code: 0 all is well (warnings, marked !, may be left); 1 something failed; 64 the command line is wrong.`;

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
  return `\n${count("pass")} well, ${count("warn")} to think about, ${count("fail")} failed.`;
}
