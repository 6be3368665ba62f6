// build-helper.ts - compiles the wrapper of runs (wrapper.c, starter.c), if this host has a C compiler. Runs during `npm ci`, and never
// fails it: without the compiled wrapper runs start under the shell's, which takes more time for each start.
import { execFileSync } from "node:child_process";
import { renameSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const SOURCES = ["wrapper.c", "starter.c"].map((name) => fileURLToPath(new URL(name, import.meta.url)));
const TARGET = fileURLToPath(new URL("hub-wrapper", import.meta.url));
const DRAFT = `${TARGET}.${process.pid}`;
const FLAGS = [
  "-std=gnu11",
  "-O2",
  "-Wall",
  "-Wextra",
  "-fstack-protector-strong",
  "-D_FORTIFY_SOURCE=2",
  "-fPIE",
  "-Wl,-z,relro,-z,now",
];
/** The first that works: a program that needs no shared library starts in two thirds of the time, but not every host has a static C library. */
const LINKS = ["-static-pie", "-pie"];

try {
  compile(LINKS);
  // Runs that are alive keep the old file.
  renameSync(DRAFT, TARGET);
  process.stdout.write("host-agent: the wrapper of runs was compiled\n");
} catch (error) {
  rmSync(DRAFT, { force: true });
  rmSync(TARGET, { force: true });
  const why =
    (error as NodeJS.ErrnoException).code === "ENOENT"
      ? "no C compiler (cc)"
      : "it could not be compiled here";
  process.stdout.write(`host-agent: the wrapper of runs is the shell's: ${why}\n`);
}

function compile([link, ...others]: readonly string[]): void {
  try {
    execFileSync("cc", [...FLAGS, link!, "-o", DRAFT, ...SOURCES], { stdio: ["ignore", "ignore", "pipe"] });
    execFileSync(DRAFT, ["--check"], { stdio: "ignore" });
  } catch (error) {
    if (others.length === 0) throw error;
    compile(others);
  }
}
