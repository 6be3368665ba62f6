import { execFileSync } from "node:child_process";
import {
  constants,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { NotRegularFile, openFile, openFolder } from "../../../host-agent/system/open-file.ts";

describe("openFile", () => {
  test("gives a descriptor with its stats, and closes it when it is disposed of", () => {
    const path = join(temporaryFolder(), "file");
    writeFileSync(path, "text");
    let fd: number;
    {
      using file = openFile(path);
      fd = file.fd;
      expect(file.stats.size).toBe(4);
      expect(readFileSync(fd, "utf8")).toBe("text");
    }
    expect(() => fstatSync(fd)).toThrow("EBADF");
  });

  test("creates a file with the flags and the mode of open(2)", () => {
    const path = join(temporaryFolder(), "file");
    const { O_APPEND, O_CREAT, O_WRONLY } = constants;
    using file = openFile(path, O_WRONLY | O_APPEND | O_CREAT, 0o600);
    writeSync(file.fd, "text");
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("does not follow a symbolic link", () => {
    const path = join(temporaryFolder(), "link");
    symlinkSync("/etc/passwd", path);
    expect(() => openFile(path)).toThrow("ELOOP");
  });

  test("refuses a FIFO without waiting for its other end", () => {
    const path = join(temporaryFolder(), "fifo");
    execFileSync("mkfifo", [path]);
    expect(() => openFile(path)).toThrow(NotRegularFile);
    expect(() => openFile(path, constants.O_RDWR)).toThrow(NotRegularFile);
  });

  test.each([
    ["a folder", tmpdir()],
    ["a device", "/dev/null"],
  ])("refuses %s, and leaves no descriptor open", (_kind, path) => {
    const before = openDescriptors();
    expect(() => openFile(path)).toThrow(`${path} is not a regular file`);
    expect(openDescriptors()).toBe(before);
  });

  test("throws the errno for a file that does not exist", () => {
    expect(() => openFile(join(temporaryFolder(), "none"))).toThrow("ENOENT");
  });
});

describe("openFolder", () => {
  test("opens a folder, and neither a file nor a link to a folder", () => {
    const dir = temporaryFolder();
    mkdirSync(join(dir, "folder"));
    writeFileSync(join(dir, "file"), "");
    symlinkSync("folder", join(dir, "link"));
    using folder = openFolder(join(dir, "folder"));
    expect(folder.stats.isDirectory()).toBe(true);
    expect(() => openFolder(join(dir, "file"))).toThrow("ENOTDIR");
    expect(() => openFolder(join(dir, "link"))).toThrow("ENOTDIR");
  });
});

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

function temporaryFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), "open-file-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
