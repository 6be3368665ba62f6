import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Other tests of the same room that are for a file too. */
export const ALSO: Record<string, string[]> = {
  "handlers/idempotency.ts": ["handlers/launch-once.test.ts"],
  "host-agent/door/door.ts": ["host-agent/door/door-log.test.ts"],
  "host-agent/door/nonce-memory.ts": [
    "host-agent/door/door.test.ts",
    "host-agent/door/door-restart.test.ts",
    "host-agent/door/door-clock.test.ts",
  ],
  "host-agent/runs/end-of-run.ts": [
    "host-agent/runs/observe.test.ts",
    "host-agent/runs/observe-failures.test.ts",
  ],
  "host-agent/executor/wrapper.sh": [
    "host-agent/executor/wrapper-output.test.ts",
    "host-agent/executor/wrapper-apart.test.ts",
    "host-agent/executor/run-mark.test.ts",
  ],
  "host-agent/runs/launch-plan.ts": ["host-agent/runs/launch.test.ts"],
  "host-agent/runs/reconcile.ts": [
    "host-agent/runs/observe.test.ts",
    "host-agent/runs/observe-failures.test.ts",
  ],
  "host-agent/runs/record-launch.ts": [
    "host-agent/runs/launch.test.ts",
    "host-agent/runs/launches-at-once.test.ts",
  ],
  "host-agent/runs/recover-launch.ts": [
    "host-agent/runs/observe.test.ts",
    "host-agent/runs/observe-failures.test.ts",
  ],
  "host-agent/runs/start.ts": ["host-agent/runs/launch.test.ts"],
  "host-agent/runs/observe.ts": [
    "host-agent/runs/observe-failures.test.ts",
    "host-agent/runs/reconcile.test.ts",
  ],
  "host-agent/runs/stop.ts": ["host-agent/runs/send-stop.test.ts"],
  "host-agent/store/audit-head.ts": ["host-agent/store/launch-writes.test.ts"],
  "host-agent/store/run-changes.ts": ["host-agent/store/run-store.test.ts"],
  "host-agent/store/run-queries.ts": ["host-agent/store/run-store.test.ts"],
  "host-agent/store/run.ts": ["host-agent/store/launch-writes.test.ts", "host-agent/store/run-store.test.ts"],
  "host-agent/store/transaction.ts": ["host-agent/store/launch-writes.test.ts"],
};

/**
 * The tests of a source file, as paths from the project's root, in the order in which they are to run: those that are
 * listed for it and that of its name in its room; the whole folder of the room when there are none. Throws when the
 * room has no tests.
 */
export function testsOf(file: string, project: string): string[] {
  const room = join("test", dirname(file));
  const own = join(room, `${basename(file).replace(/\.\w+$/, "")}.test.ts`);
  const found = [...(ALSO[file] ?? []).map((test) => join("test", test)), own].filter((path) =>
    existsSync(join(project, path)),
  );
  if (found.length > 0) return found;
  if (!existsSync(join(project, room))) throw new Error(`${file} has no tests: there is no folder ${room}`);
  return [`${room}/`];
}
