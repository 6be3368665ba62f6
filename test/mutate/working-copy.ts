import { type ChildProcess, execFileSync, fork } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import type { TestAnswer, TestOrder } from "./vitest-server.ts";

/** What came of the tests; `too long` is as good as `failed`. */
export type Verdict = "passed" | "failed" | "too long";

/** A copy of the project in a folder for temporary files, which can be broken. */
export interface WorkingCopy extends Disposable {
  read(file: string): string;
  write(file: string, text: string): void;
  /** Runs a file of tests, or those of a folder, until the first one fails. `output` is why. */
  test(tests: string, limitMs: number): Promise<{ verdict: Verdict; output: string }>;
}

/** Not copied but linked: nobody writes to them. */
const LINKED = ["node_modules", "adapters/dist"];

/**
 * Copies the files that git knows or would add. Each run of tests has a separate process or thread. Disposing of the copy ends all processes that came
 * from it and removes it. Throws what git and the file system say.
 */
export function openWorkingCopy(project: string, pool: "forks" | "threads"): WorkingCopy {
  const dir = mkdtempSync(join(tmpdir(), "mutate-"));
  // Tests start processes of other users, which read the project.
  chmodSync(dir, 0o755);
  const temporary = join(dir, "tmp");
  const args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
  const files = execFileSync("git", args, { cwd: project, encoding: "utf8" }).split("\0").filter(Boolean);
  for (const file of files.filter((name) => existsSync(join(project, name)))) {
    mkdirSync(dirname(join(dir, file)), { recursive: true });
    copyFileSync(join(project, file), join(dir, file));
  }
  for (const name of LINKED.filter((path) => existsSync(join(project, path)))) {
    symlinkSync(join(project, name), join(dir, name));
  }

  let changed: string | undefined;
  let server: ChildProcess | undefined;
  function startServer(): ChildProcess {
    const compiled = join(dir, "compiled");
    mkdirSync(compiled, { recursive: true });
    const started = fork(join(dir, "test", "mutate", "vitest-server.ts"), [temporary, pool], {
      cwd: dir,
      env: { ...process.env, TMPDIR: compiled },
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    started.once("exit", () => {
      if (server === started) server = undefined;
    });
    return started;
  }

  return {
    read: (file) => readFileSync(join(dir, file), "utf8"),
    write(file, text) {
      changed = join(dir, file);
      writeFileSync(changed, text);
    },

    async test(tests, limitMs) {
      mkdirSync(temporary);
      server ??= startServer();
      const { pid } = server;
      const answer = answerOf(server, { tests: join(dir, tests), changed });
      let isOver = false;
      const timer = setTimeout(() => {
        isOver = true;
        endProcessesOf(dir);
      }, limitMs);
      const { hasPassed, output } = await answer;
      clearTimeout(timer);
      // A broken product may leave runs behind.
      endProcessesOf(dir, pid);
      rmSync(temporary, { recursive: true, force: true });
      if (isOver) return { verdict: "too long", output };
      return { verdict: hasPassed ? "passed" : "failed", output };
    },

    [Symbol.dispose]() {
      endProcessesOf(dir);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What the server answers; not passed when it ends instead. */
async function answerOf(server: ChildProcess, order: TestOrder): Promise<TestAnswer> {
  const { promise, resolve } = Promise.withResolvers<TestAnswer>();
  const onExit = (): void => resolve({ hasPassed: false, output: "Vitest has ended" });
  server.once("message", resolve);
  server.once("exit", onExit);
  server.send(order);
  const answer = await promise;
  server.off("exit", onExit);
  return answer;
}

const ROUNDS = 5;

/** SIGKILLs every process that was started in the folder: by its command line, working folder or environment. Except one. */
function endProcessesOf(dir: string, spared?: number): void {
  const kept = [process.pid, spared];
  for (let round = 0; round < ROUNDS; round++) {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && !kept.includes(Number(name)));
    const found = pids.filter((pid) => tracesOf(pid).includes(dir));
    for (const pid of found) kill(Number(pid));
    if (found.length === 0) return;
  }
}

function tracesOf(pid: string): string {
  const read = (file: string) => quietly(() => readFileSync(`/proc/${pid}/${file}`, "latin1"));
  return read("cmdline") + read("environ") + quietly(() => readlinkSync(`/proc/${pid}/cwd`));
}

/** It may have ended meanwhile, or belong to another user. */
function quietly(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}
