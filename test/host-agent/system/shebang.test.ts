import { spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { readFirstLine } from "../../../host-agent/system/shebang.ts";
import { tempDir } from "../../support/temp-dir.ts";

const LONG = "x".repeat(300);

describe("the first line of a program is read as the kernel reads it", () => {
  test.for([
    "#!/bin/echo",
    "#!/bin/echo\n",
    "#!  \t/bin/echo \t \n",
    "#!/bin/echo one two  three \t\n",
    "#!/bin/echo\tone\n",
    "#!./echo -n\n",
    "#!josé/écho a b\n",
    "#!\n",
    "#!   \t \n",
    "#!   ",
    "# !/bin/echo\n",
    "echo\n",
    "",
    `#!/bin/echo ${LONG}\n`,
    `#!${" ".repeat(244)}/bin/echo a\n`,
    `#!/bin/echo ${LONG}`,
    `#!/bin/${LONG}\n`,
    `#!${" ".repeat(300)}/bin/echo\n`,
    `#!${" ".repeat(200)}/bin/echo a\n`,
    `#!${" ".repeat(245)}/bin/echo\n`,
    `#!${" ".repeat(244)}/bin/echo\n`,
    "#!/bin/echo a\0b\n",
  ])("%j", (text) => {
    const dir = tempDir();
    const path = join(dir, "script");
    mkdirSync(join(dir, "josé"));
    for (const name of ["echo", "josé/écho"]) symlinkSync("/bin/echo", join(dir, name));
    writeFileSync(path, text, { mode: 0o755 });

    const ran = spawnSync(path, [], { cwd: dir, encoding: "utf8" });
    const { interpreter, fault } = readFirstLine(Buffer.from(text));

    // Without an interpreter the kernel starts none (ENOEXEC), and the C library runs a shell instead.
    if (interpreter === undefined) {
      // oxlint-disable-next-line vitest/no-conditional-expect -- the kernel decides which case it is
      expect(ran.stdout ?? "").not.toContain(path);
      return;
    }
    expect(fault).toBeUndefined();
    const [, argument] = interpreter;
    expect(ran.stdout.trimEnd()).toBe(
      [argument, path].filter((word) => word !== undefined && word !== "-n").join(" "),
    );
  });

  test("and CR LF at its end is reported as Windows line endings, with or without an interpreter", () => {
    for (const text of ["#!/bin/bash\r\n", "#!/usr/bin/env python3\r\n", "set -e\r\necho\r\n", "\r\n"]) {
      expect(readFirstLine(Buffer.from(text)), text).toEqual({
        interpreter: undefined,
        fault: expect.stringMatching(/^has Windows line endings/),
      });
    }
    expect(readFirstLine(Buffer.from("#!/bin/sh\n\r\n")).fault).toBeUndefined();
  });

  test("and an interpreter whose name is not UTF-8 is reported", () => {
    const { fault } = readFirstLine(Buffer.from("#!/bin/\xe9cho\n", "latin1"));
    expect(fault).toBe("has a first line that is not UTF-8");
  });
});
