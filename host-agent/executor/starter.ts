import { spawn } from "node:child_process";
import { constants } from "node:os";
import { createInterface } from "node:readline";
import { getSystemErrorName } from "node:util";

import { currentBootId, type ProcessIdentity } from "./process-identity.ts";
import type { Wrapper } from "./start-run.ts";

/** Starts wrappers by vfork(2), which Node does not have: from a small program, which is this process's child. */
export interface Starter {
  /**
   * Starts a wrapper as `StartWrapper` does; undefined, with nothing started, when the program may not open the descriptors
   * of this process (ptrace(2)), as where Node has capabilities of its file.
   */
  start(wrapper: Wrapper, onExit: () => void): Promise<ProcessIdentity | undefined>;
  /** False when the program could not be executed. */
  isUsable(): boolean;
  /** Ends it once it has done what it was asked for; the wrappers go on. */
  close(): void;
}

interface Waiting {
  resolve(process: ProcessIdentity | undefined): void;
  reject(error: unknown): void;
  onExit: () => void;
}

const LENGTH_BYTES = 4;

/** Opens the starter that is a part of the compiled wrapper at `path`. `onLost` is called when it has ended. */
export function openStarter(path: string, onLost: () => void): Starter {
  const child = spawn(path, ["--starter"], { stdio: ["pipe", "pipe", "ignore"], env: {}, cwd: "/" });
  const waiting = new Map<string, Waiting>();
  /** By the pid of the wrapper. */
  const exits = new Map<number, () => void>();
  let failure: Error | undefined;
  let lastId = 0;

  function take(id: string): Waiting {
    const asked = waiting.get(id)!;
    waiting.delete(id);
    return asked;
  }

  function onLine(line: string): void {
    const [event, ...[id, value, startTime]] = line.split(" ") as [string, string, string, string];
    if (event === "started") {
      const { resolve, onExit } = take(id);
      const pid = Number(value);
      exits.set(pid, onExit);
      resolve({ pid, startTime, bootId: currentBootId() });
    } else if (event === "failed") {
      take(id).reject(errnoError(Number(value)));
    } else if (event === "unreachable") {
      take(id).resolve(undefined);
    } else {
      const pid = Number(id);
      exits.get(pid)?.();
      exits.delete(pid);
    }
  }

  createInterface(child.stdout).on("line", onLine);
  child.on("error", (error) => {
    failure = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  });
  child.on("exit", onLost);
  // Of what it does not take any more, its end tells.
  child.stdin.on("error", () => {});

  return {
    async start(wrapper, onExit) {
      const id = String(++lastId);
      const request = requestOf(id, wrapper);
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject, onExit });
        child.stdin.write(request);
      });
    },
    isUsable: () => failure === undefined,
    close: () => void child.stdin.end(),
  };
}

/** A request as starter.c reads it. */
function requestOf(id: string, { runId, helper, order, fds, cwd, env, runUser }: Wrapper): Buffer {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const fields = [
    id,
    runUser?.uid ?? "",
    runUser?.gid ?? "",
    cwd,
    fds.log,
    fds.folder,
    fds.cgroup ?? "",
    helper,
    runId,
    variables.length,
    ...variables,
  ];
  // Each would begin another field. No program can be given one.
  if (fields.some((field) => String(field).includes("\0"))) throw errnoError(constants.errno.EINVAL);
  const text = fields.map((field) => `${field}\0`).join("") + order;
  const length = Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES + length);
  const header = new Uint32Array([length]);
  bytes.set(new Uint8Array(header.buffer));
  bytes.write(text, LENGTH_BYTES);
  return bytes;
}

/** The error of a system call, as Node reports it. */
function errnoError(errno: number): Error {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`spawn ${code}`), { code, errno: -errno });
}
