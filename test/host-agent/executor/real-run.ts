import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { beforeEach, describe, onTestFinished } from "vitest";

import type { Handle } from "../../../host-agent/executor/executor.ts";
import { currentBootId } from "../../../host-agent/executor/process-identity.ts";
import { HELPER_PATH, obstacleToHelper } from "../../../host-agent/executor/helper.ts";
import { processPasses } from "../../../host-agent/executor/process-passes.ts";
import { isCommandApart, readExit, runFolder } from "../../../host-agent/executor/run-folder.ts";
import { sendSignal } from "../../../host-agent/executor/send-signal.ts";
import { treeSignals } from "../../../host-agent/executor/signal-tree.ts";
import { startRun, type StartOptions, type StartParts } from "../../../host-agent/executor/start-run.ts";
import { openStarter } from "../../../host-agent/executor/starter.ts";
import { until } from "../../support/hub.ts";
import { tempDir } from "../../support/temp-dir.ts";

let count = 0;
let wrapper: string | undefined;

/** The path of the compiled wrapper while its tests run; undefined for the shell's. */
export const wrapperInUse = (): string | undefined => wrapper;

/** Declares the tests once for each wrapper that this host has: the shell's, and the compiled one. */
export function forEachWrapper(declare: () => void): void {
  const helper = obstacleToHelper() === undefined ? HELPER_PATH : undefined;
  const wrappers = [
    ["the shell's wrapper", undefined] as const,
    ...(helper ? [["the compiled wrapper", helper] as const] : []),
  ];
  describe.each(wrappers)("under %s", (_name, path) => {
    beforeEach(() => void (wrapper = path));
    declare();
  });
}

/** What a test may choose of a run. */
export interface RealRunOptions extends Partial<
  Pick<StartOptions, "env" | "logLimit" | "cgroupFd" | "runUser">
> {
  /** The folder that the run works in and, unless `logPath` says another, that its log is in. */
  dir?: string;
  logPath?: string;
  terminal?: boolean;
}

/** Starts a command under the real wrapper, as the executor does, and kills what is left of it at the end of the test. */
export async function realRun(argv: string[], options: RealRunOptions = {}) {
  const { dir = tempDir(), env = {}, logLimit, cgroupFd, runUser, terminal = false } = options;
  const runId = `run_3000${process.pid.toString(16).padStart(6, "0").slice(-6)}${(++count).toString(16).padStart(2, "0")}`;
  const folder = runFolder(dir, runId);
  mkdirSync(join(dir, "runs"), { recursive: true });
  const logPath = options.logPath ?? join(dir, `${runId}.log`);
  const built = { PATH: process.env["PATH"]!, ...env, HUB_RUN_ID: runId };
  const command = { argv, cwd: dir, env: {}, terminal, script: undefined, logDir: dir };
  const startOptions = { runId, folder, logPath, logLimit, env: built, runUser, cgroupFd, helper: wrapper };
  const { process: identity } = await startRun(command, startOptions, wrapper ? startedBy(wrapper) : {});
  const handle: Handle = { runId, launchedIn: currentBootId(), process: identity };
  const signals = treeSignals({
    passes: processPasses(),
    ownerOf: () => undefined,
    isApart: () => isCommandApart(folder),
    send: async (_owner, targets, signal) => sendSignal(targets, signal),
  });
  onTestFinished(() => signals.kill(handle));
  const log = () => readFileSync(logPath);
  return {
    runId,
    folder,
    handle,
    signals,
    logPath,
    log,
    text: () => log().toString(),
    /** The exit code, once the run is over. */
    ended: () =>
      until(() => {
        const exit = readExit(folder);
        return exit?.isOver ? { code: exit.code } : undefined;
      }).then(({ code }) => code),
    says: (word: string) => until(() => log().includes(word) || undefined),
  };
}

/** As the spawner starts the compiled wrapper. */
function startedBy(helper: string): StartParts {
  const starter = openStarter(helper, () => {});
  onTestFinished(starter.close);
  return {
    async startWrapper(order, onExit) {
      const started = await starter.start(order, onExit);
      if (!started) throw new Error("the starter cannot open the descriptors of this process");
      return started;
    },
  };
}

/** The words that run a script with bash. */
export const bash = (script: string, ...words: string[]) => ["/bin/bash", "-c", script, "bash", ...words];
