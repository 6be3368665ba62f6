import {
  appendFileSync,
  existsSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { missingForTerminal, processesOf } from "../../host-agent/inspection.ts";
import { fail, messageOf, pass, type Result, warn } from "./finding.ts";
import { eventually, type ScratchHub, startScratchHub } from "./scratch-hub.ts";

/** A trial of one promise of the product. It throws when the promise is broken. */
interface Trial {
  name: string;
  says: string;
  attempt(hub: ScratchHub): Promise<void>;
}

const ADVICE =
  "This host breaks a promise of the product. Do not use it for important jobs. Report this line with the versions of the kernel and Node.";
const TRIALS_TIMEOUT_MS = 15_000;
const RETRIES = 10;
const GIBIBYTE = 1_073_741_824;
const LETTERS = "é한😀";

const TRIALS: readonly Trial[] = [
  {
    name: "Retries",
    says: `${RETRIES} launches at once with one Idempotency-Key started one run.`,
    async attempt(hub) {
      const ledger = join(hub.dir, "ledger");
      const path = hub.script("retries.sh", `echo started >>"${ledger}"`);
      const answers = await Promise.all(
        Array.from({ length: RETRIES }, () => hub.launch(path, { key: "one" })),
      );
      const runs = answers.flatMap(({ run }) => run ?? []);
      expect(runs.length === RETRIES, `${RETRIES - runs.length} launches were refused`);
      const ids = new Set(runs.map((run) => run.run_id));
      expect(ids.size === 1, `the answers named ${ids.size} runs`);
      await hub.ended(runs[0]!.run_id);
      expect(readFileSync(ledger, "utf8") === "started\n", "the script ran more than once");
    },
  },
  {
    name: "Crash",
    says: "A run survived a kill -9 of the server. Its log, exit code and status are right.",
    async attempt(hub) {
      const go = join(hub.dir, "go");
      const id = await hub.run(
        hub.script("crash.sh", `echo before; until test -e "${go}"; do sleep 0.02; done; echo after; exit 7`),
      );
      await hub.crash();
      const { status } = await hub.record(id);
      expect(status === "running", `after the crash it was ${status}`);
      writeFileSync(go, "");
      const record = await hub.ended(id);
      expect(
        record.status === "failed" && record.exit_code === 7,
        `it ended as ${record.status} with ${record.exit_code}`,
      );
      const log = await hub.log(id);
      expect(log === "before\nafter\n", `its log was ${JSON.stringify(log)}`);
    },
  },
  {
    name: "Kill",
    says: "A kill ended the whole process tree, including a child in its own session.",
    async attempt(hub) {
      const ready = join(hub.dir, "ready");
      const id = await hub.run(
        hub.script("tree.sh", `setsid sleep 600 & sleep 600 & touch "${ready}"; wait`),
      );
      await eventually(() => existsSync(ready) || undefined);
      await hub.kill(id, { signal: "SIGTERM", grace_seconds: 1 });
      const { status } = await hub.ended(id);
      expect(status === "killed", `it was ${status}`);
      expect(processesOf(id).length === 0, "a process was left");
    },
  },
  {
    name: "Large log",
    says: "The end of a log of 1 GiB was read at its offset, in one small page.",
    async attempt(hub) {
      // A sparse file, which uses no disk space.
      const id = await hub.run(hub.script("large.sh", "true"));
      const { log_path: log } = await hub.ended(id);
      truncateSync(log, GIBIBYTE);
      appendFileSync(log, "end\n");
      const page = await hub.page(id, { after: GIBIBYTE });
      expect(page.chunk === "end\n" && !page.more, `the page was ${JSON.stringify(page)}`);
    },
  },
  {
    name: "Symbolic links",
    says: "A script that was replaced by a link out of the script roots was refused.",
    async attempt(hub) {
      const outside = join(hub.dir, "outside.sh");
      const mark = join(hub.dir, "outside-ran");
      writeFileSync(outside, `#!/bin/bash\ntouch "${mark}"\n`, { mode: 0o755 });
      const path = hub.script("swapped.sh", "true");
      symlinkSync(outside, `${path}.new`);
      renameSync(`${path}.new`, path);
      const { status } = await hub.launch(path);
      expect(status === 403, `it was answered with ${status}`);
      expect(!existsSync(mark), "the script outside ran");
    },
  },
  {
    name: "UTF-8",
    says: "Log pages of every small size give the whole log, and split no character.",
    async attempt(hub) {
      const id = await hub.run(hub.script("letters.sh", `printf '${LETTERS.repeat(5)}'`));
      await hub.ended(id);
      for (let bytes = 1; bytes <= 5; bytes++) {
        const log = await hub.log(id, bytes);
        expect(log === LETTERS.repeat(5), `with pages of ${bytes} bytes it read ${JSON.stringify(log)}`);
      }
    },
  },
  {
    name: "Environment",
    says: "A run did not see the server's environment.",
    async attempt(hub) {
      const id = await hub.run(hub.script("environment.sh", "tr '\\0' '\\n' </proc/$$/environ"));
      await hub.ended(id);
      const log = await hub.log(id);
      expect(log.includes(`HUB_RUN_ID=${id}`), "its environment could not be read");
      expect(!log.includes(hub.secret) && !log.includes("HUB_KEYS_FILE"), "it saw the server's secret");
    },
  },
];

const TERMINAL: Trial = {
  name: "Terminal mode",
  says: "A run in terminal mode had a terminal, and its log has every byte.",
  async attempt(hub) {
    const id = await hub.run(hub.script("terminal.sh", "test -t 1 && seq 1 2000"), { terminal: true });
    const { exit_code: code } = await hub.ended(id);
    expect(code === 0, `it exited with ${code}`);
    const expected = Array.from({ length: 2_000 }, (_, i) => `${i + 1}\n`).join("");
    expect((await hub.log(id)) === expected, "its log lacks bytes");
  },
};

/** Starts a separate Hub with `start` and tries out what the product promises. Removes everything at the end. */
export async function runTrials(start: () => Promise<ScratchHub> = startScratchHub): Promise<Result[]> {
  let hub: ScratchHub;
  try {
    hub = await start();
  } catch (error) {
    return [
      {
        name: "Trials",
        ...fail(
          `No server could be started for the trials: ${messageOf(error)}.`,
          "Fix the failed checks above first.",
        ),
      },
    ];
  }
  await using scratch = hub;
  const deadline = performance.now() + TRIALS_TIMEOUT_MS;
  const results: Result[] = [];
  const missing = await missingForTerminal();
  for (const { name, says, attempt } of missing === undefined ? [...TRIALS, TERMINAL] : TRIALS) {
    try {
      if (performance.now() > deadline)
        throw new Error("the host is too slow: no time was left for this trial");
      await attempt(scratch);
      results.push({ name, ...pass(says) });
    } catch (error) {
      results.push({ name, ...fail(`Broken: ${messageOf(error)}.`, ADVICE) });
    }
  }
  if (missing !== undefined)
    results.push({ name: TERMINAL.name, ...warn("It was not tried: it is not available.", missing) });
  return results;
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}
