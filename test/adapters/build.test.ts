import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, cp, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, onTestFinished, test } from "vitest";

import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../support/other-user.ts";
import { needs } from "../support/needs.ts";

const PROJECT = join(import.meta.dirname, "..", "..");

test(
  "a build writes only missing files, keeps another build's drafts, and is not needed for a start",
  needs(process.getuid?.() !== 0 || CAN_BE_NOBODY, WHY_NOT_NOBODY),
  async () => {
    const { dist, build } = await copyOfProject();
    expect(await build()).toEqual({ code: 0, stderr: "" });
    const first = await versions(dist);
    await writeFile(join(dist, "console.html.1.tmp"), "of another build");
    await writeFile(join(dist, "console-OLD.js"), "of an older one");

    expect(await build()).toEqual({ code: 0, stderr: "" });
    expect(await versions(dist)).toEqual({ ...first, "console.html.1.tmp": expect.any(String) });

    await rm(join(dist, "console-OLD.js"), { force: true });
    await using closed = await closedTo(dist);
    expect(await build(closed.uid), "nothing is to be written").toEqual({ code: 0, stderr: "" });
    await closed.open(() => writeFile(join(dist, "console.html"), "of a former build"));
    const former = await build(closed.uid);
    expect(former.stderr).toMatch(/^The console .*EACCES\. The pages of the last build are served\..*\n$/);
    expect(former.code).toBe(0);
    await closed.open(() => rm(join(dist, "console.html")));
    const none = await build(closed.uid);
    expect(none.stderr).toMatch(/^The console .*EACCES\. No earlier build exists\..*\n$/);
    expect(none.code).toBe(73);
  },
);

/** The sources in a separate folder, and a build of them there. */
async function copyOfProject() {
  const dir = await mkdtemp(join(tmpdir(), "hub-build-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  await chmod(dir, 0o755);
  for (const name of ["adapters", "handlers", "host-agent", "package.json", "tsconfig.json"]) {
    await cp(join(PROJECT, name), join(dir, name), {
      recursive: true,
      filter: (path) => !path.endsWith("/adapters/dist"),
    });
  }
  await symlink(join(PROJECT, "node_modules"), join(dir, "node_modules"));
  async function build(uid?: number) {
    const child = spawn(process.execPath, [join(dir, "adapters/build.ts")], {
      stdio: ["ignore", "ignore", "pipe"],
      ...(uid !== undefined && { uid }),
    });
    let stderr = "";
    child.stderr.on("data", (chunk) => (stderr += String(chunk)));
    await once(child, "close");
    return { code: child.exitCode, stderr };
  }
  return { dist: join(dir, "adapters/dist"), build };
}

/** Makes a folder read-only to this user or, where that is root, hands out another user to whom it is. */
async function closedTo(folder: string) {
  const uid = process.getuid!() === 0 ? NOBODY_UID : undefined;
  await chmod(folder, 0o555);
  return {
    uid,
    async open(change: () => Promise<void>): Promise<void> {
      await chmod(folder, 0o755);
      await change();
      await chmod(folder, 0o555);
    },
    [Symbol.asyncDispose]: () => chmod(folder, 0o755),
  };
}

/** What a write would change: each file's inode and times. */
async function versions(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder);
  const all = names.map(async (name) => {
    const { ino, mtimeMs, ctimeMs } = await stat(join(folder, name));
    return [name, `${ino} ${mtimeMs} ${ctimeMs}`] as const;
  });
  return Object.fromEntries(await Promise.all(all));
}
