import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
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

/** What came of the tests; `too long` is as good as `failed`. */
export type Verdict = "passed" | "failed" | "too long";

/** A copy of the project in a folder for temporary files, which can be broken. */
export interface WorkingCopy extends Disposable {
  read(file: string): string;
  write(file: string, text: string): void;
  /** Runs a file of tests, or those of a folder, until the first one fails. `output` is what they printed. */
  test(tests: string, limitMs: number): Promise<{ verdict: Verdict; output: string }>;
}

/** Not copied but linked: nobody writes to them. */
const LINKED = ["node_modules", "adapters/dist"];

/**
 * Copies the files that git knows or would add. Disposing of the copy ends all processes that came
 * from it and removes it. Throws what git and the file system say.
 */
export function openWorkingCopy(project: string): WorkingCopy {
  const dir = mkdtempSync(join(tmpdir(), "mutate-"));
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

  return {
    read: (file) => readFileSync(join(dir, file), "utf8"),
    write: (file, text) => writeFileSync(join(dir, file), text),

    async test(tests, limitMs) {
      mkdirSync(temporary);
      const vitest = spawn(
        process.execPath,
        [
          join("node_modules", "vitest", "vitest.mjs"),
          "run",
          "--bail=1",
          "--maxWorkers=1",
          "--reporter=default",
          tests,
        ],
        { cwd: dir, env: { ...process.env, TMPDIR: temporary }, stdio: ["ignore", "pipe", "pipe"] },
      );
      let output = "";
      for (const stream of [vitest.stdout, vitest.stderr]) {
        stream.setEncoding("utf8").on("data", (text: string) => (output += text));
      }
      let isOver = false;
      const timer = setTimeout(() => {
        isOver = true;
        endProcessesOf(dir);
      }, limitMs);
      const [code] = (await once(vitest, "exit")) as [number | null];
      clearTimeout(timer);
      // A broken product may leave runs behind.
      endProcessesOf(dir);
      rmSync(temporary, { recursive: true, force: true });
      if (isOver) return { verdict: "too long", output };
      return { verdict: code === 0 ? "passed" : "failed", output };
    },

    [Symbol.dispose]() {
      endProcessesOf(dir);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

const ROUNDS = 5;

/** SIGKILLs every process that was started in the folder: by its command line, working folder or environment. */
function endProcessesOf(dir: string): void {
  for (let round = 0; round < ROUNDS; round++) {
    const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
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
