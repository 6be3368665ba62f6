import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { followLog, waitForEnd } from "../client/follow-log.ts";
import type { Api } from "./api.ts";
import type { Context } from "./context.ts";
import { EXIT, exitCodeOf } from "./exit.ts";
import { outcome } from "./format.ts";
import { interruptible } from "./interruption.ts";
import { openLogOutput } from "./log-output.ts";
import { openStatusLine } from "./status-line.ts";

/** Prints a run's log until the run ends. Returns the exit code for how it ended. */
export async function followRun(
  context: Context,
  api: Api,
  run: RunRecord,
  { after, raw }: { after: number; raw: boolean },
): Promise<number> {
  const log = openLogOutput(context, run, raw);
  const final = await detachable(context, run, async (signal) => {
    using line = await openStatusLine(run, context.output);
    try {
      return await followLog(api, run, {
        after,
        retries: context.retries("follow", signal),
        async onPage(page) {
          line.add(page.bytes.length);
          await log.write(page);
        },
        onRecord: (record) => line.show(record),
      });
    } finally {
      await log.end();
    }
  });
  if (context.json) await context.output.jsonLine(final);
  return reportEnd(context, final);
}

/** Waits until a run ends, without its log. Returns the exit code for how it ended. */
export async function awaitRun(context: Context, api: Api, run: RunRecord): Promise<number> {
  const final = await detachable(context, run, async (signal) => {
    using line = await openStatusLine(run, context.output);
    return waitForEnd(api, run, {
      retries: context.retries("follow", signal),
      onRecord: (record) => line.show(record),
    });
  });
  if (context.json) await context.output.json(final);
  return reportEnd(context, final);
}

function reportEnd({ output }: Context, final: RunRecord): number {
  const exitCode = exitCodeOf(final);
  if (exitCode !== EXIT.ok || output.stderr.isTTY) output.warn(outcome(final));
  return exitCode;
}

/** Ctrl-C ends the command and leaves the run alone; the message names the commands to follow and to kill it. */
function detachable<T>(
  context: Context,
  { run_id }: RunRecord,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  return interruptible(
    work,
    () =>
      `detached; ${run_id} continues. Follow it: \`${context.commandLine(`logs ${run_id} -f`)}\`, kill it: \`${context.commandLine(`kill ${run_id}`)}\``,
  );
}
