import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { logFileName } from "../../../host-agent/logs/log-name.ts";
import { createLog } from "../../../host-agent/logs/log-file.ts";
import { openLogFolder } from "../../../host-agent/logs/log-folder.ts";
import { type Hub, startHub } from "../../support/hub.ts";
import { ONLY_ROOT } from "../../support/other-user.ts";
import { needs } from "../../support/needs.ts";

const RUNS = "/api/v1/pipelines/runs";
const IS_ROOT = process.getuid?.() === 0;
const NOBODY = 65_534;

/** All links lead to what the test itself has made in its own folder. */
let hub: Hub;
/** Where the logs of the recipe belong, and what nobody may write into. */
let logs: string;
let victim: string;

beforeAll(async () => {
  hub = await startHub({
    recipes: [
      {
        recipe_id: "job",
        title: "Job",
        description: "",
        command: ["/bin/sh", "-c", 'echo "written by $1"', "job"],
        log_dir: "shared/logs",
      },
    ],
  });
  logs = join(hub.dir, "shared", "logs");
  victim = join(hub.dir, "victim");
});
afterAll(() => hub[Symbol.asyncDispose]());

/** A fresh `shared` folder, and a victim with a file that must stay as it is. */
function prepare(): void {
  for (const folder of [join(hub.dir, "shared"), victim]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
  }
  writeFileSync(join(victim, "file"), "precious\n");
}

const launch = (word: string, key = word) =>
  hub.post(RUNS, { recipe_id: "job", args: word }, { headers: { "idempotency-key": key } });

function expectUntouched(): void {
  expect(readdirSync(victim)).toEqual(["file"]);
  expect(readFileSync(join(victim, "file"), "utf8")).toBe("precious\n");
}

function sizeAndInode(path: string): string {
  const { ino, size } = lstatSync(path);
  return `${ino}:${size}`;
}

/** The folder that would be written to, or why it is not. */
function inodeOf(folder: string): number | string {
  try {
    using opened = openLogFolder(folder);
    return fstatSync(opened.fd).ino;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** Puts a link of another user in the place of a folder, and the folder back, without end. */
const SWAP = `const { symlinkSync, renameSync, lchownSync, unlinkSync } = require("node:fs");
  const [path, target] = process.argv.slice(1);
  const attempt = (work) => { try { work(); } catch {} };
  for (let i = 0; ; i++) {
    attempt(() => { symlinkSync(target, path + ".link"); lchownSync(path + ".link", ${NOBODY}, ${NOBODY}); });
    attempt(() => { renameSync(path, path + i); renameSync(path + ".link", path); unlinkSync(path); renameSync(path + i, path); });
  }`;

/** A link as another user of this host would place it. */
function foreignLink(target: string, path: string): void {
  symlinkSync(target, path);
  lchownSync(path, NOBODY, NOBODY);
}

describe("an existing file with the name of the next log", () => {
  /** What somebody put there, for every second of the next minute. */
  const TRAPS: [string, (path: string) => void][] = [
    ["a link to a file of another", (path) => symlinkSync(join(victim, "file"), path)],
    ["a link that leads nowhere yet", (path) => symlinkSync(join(victim, "new"), path)],
    ["a link to itself", (path) => symlinkSync(path, path)],
    ["a FIFO", (path) => void execFileSync("mkfifo", [path])],
    ["a folder", (path) => mkdirSync(path)],
    ["a file", (path) => writeFileSync(path, "there before\n")],
  ];

  test.for(TRAPS)("which is %s is not touched: the log gets another name", async ([what, trap]) => {
    prepare();
    mkdirSync(logs);
    const paths = Array.from({ length: what === "a FIFO" ? 5 : 60 }, (_, second) =>
      join(logs, logFileName("job", new Date(Date.now() + (second - 1) * 1_000))),
    );
    for (const path of paths) trap(path);
    const before = paths.map(sizeAndInode);

    const { status, json } = await launch(what.replaceAll(" ", "-"));

    expect(status).toBe(201);
    await hub.ended(json);
    expect(paths, "a separate name").not.toContain(json.log_path);
    expect(await hub.log(json)).toBe(`written by ${what.replaceAll(" ", "-")}\n`);
    // Also without a look before: the name may be taken at the last moment.
    expect(() => createLog(paths[0]!)).toThrow("EEXIST");
    expect(paths.map(sizeAndInode)).toEqual(before);
    expectUntouched();
  });
});

describe("a log_dir", () => {
  test("that is reached through links of the operator is at their target", async () => {
    prepare();
    mkdirSync(join(hub.dir, "shared", "real"));
    symlinkSync("../shared/real/./deep/..", logs);
    mkdirSync(join(hub.dir, "shared", "real", "deep"));
    const { json } = await launch("own");
    await hub.ended(json);
    expect(await hub.log(json)).toBe("written by own\n");
    expect(readdirSync(join(hub.dir, "shared", "real"))).toContain(json.log_path.split("/").at(-1));
  });

  test("that is a link to nothing, to itself or to a file answers with a clear problem and does not consume the Idempotency-Key", async () => {
    for (const target of [join(victim, "missing", "folder"), logs, join(victim, "file")]) {
      prepare();
      symlinkSync(target, logs);
      const { status, json } = await launch("nowhere", target);
      expect({ status, code: json.code }, target).toEqual({ status: 422, code: "launch_failed" });
      expect(json.detail).not.toContain(hub.dir);
      expectUntouched();
      unlinkSync(logs);
      const again = await launch("nowhere", target);
      expect(again.status, "the same key").toBe(201);
      await hub.ended(again.json);
    }
  });

  describe("that another user could replace by a link", needs(IS_ROOT, ONLY_ROOT), () => {
    /** Ways in which another user can lead the path away. */
    const WAYS: [string, () => void][] = [
      ["is itself a link", () => foreignLink(victim, logs)],
      [
        "has a link above it",
        () => {
          mkdirSync(join(victim, "logs"));
          rmSync(join(hub.dir, "shared"), { recursive: true });
          foreignLink(victim, join(hub.dir, "shared"));
        },
      ],
      [
        "is reached through another user's link behind the operator's link",
        () => {
          foreignLink(victim, join(hub.dir, "shared", "away"));
          symlinkSync("away", logs);
        },
      ],
      ["is a link to a folder to be made", () => foreignLink(join(victim, "new"), logs)],
    ];

    test.for(WAYS)("is not written to when it %s, and a dry run reports it", async ([way, lead]) => {
      prepare();
      lead();
      const inside = readdirSync(victim);
      const { status, json } = await launch("foreign", way);
      const { json: dry } = await hub.post(RUNS, { recipe_id: "job", dry_run: true });

      expect({ status, code: json.code }).toEqual({ status: 422, code: "launch_failed" });
      expect(json.detail).toContain("a symbolic link");
      expect(dry).toMatchObject({ would_start: false, code: "launch_failed" });
      expect(readdirSync(victim)).toEqual(inside);
      expect(existsSync(join(victim, "logs")) ? readdirSync(join(victim, "logs")) : []).toEqual([]);
    });

    test("is not written to through a link of the operator that others can replace, but is in a sticky folder", async () => {
      prepare();
      const shared = join(hub.dir, "shared");
      mkdirSync(join(hub.dir, "real"), { recursive: true });
      symlinkSync("../real", logs);
      for (const [close, status] of [
        [() => chmodSync(shared, 0o777), 422],
        [() => chmodSync(shared, 0o775), 422],
        [() => chmodSync(shared, 0o1777), 201],
        [() => chownSync(shared, NOBODY, NOBODY), 422],
      ] as const) {
        close();
        const answer = await launch("mine", `${status} ${statSync(shared).mode} ${statSync(shared).uid}`);
        expect(answer.status, statSync(shared).mode.toString(8)).toBe(status);
        if (status === 201) await hub.ended(answer.json);
      }
    });

    test("is not written to through a link that is made and removed in a loop", async () => {
      prepare();
      const moving = join(hub.dir, "shared", "moving");
      mkdirSync(join(moving, "logs"), { recursive: true });
      mkdirSync(join(victim, "logs"));
      const closed = statSync(join(victim, "logs")).ino;
      const swapper = spawn(process.execPath, ["-e", SWAP, moving, victim], { stdio: "ignore" });
      try {
        const seen = new Set<number | string>();
        for (let tries = 0; tries < 20_000 && !(tries >= 3_000 && seen.has("launch_failed")); tries++) {
          seen.add(inodeOf(join(moving, "logs")));
          if (tries % 20 > 0) continue;
          try {
            createLog(join(moving, "logs", `${tries}.log`))[Symbol.dispose]();
          } catch {
            // Either the link existed or nothing did.
          }
        }
        expect([...seen]).not.toContain(closed);
        expect([...seen], "the link was met").toContain("launch_failed");
        expect(swapper.exitCode, "it swapped all the time").toBeNull();
      } finally {
        swapper.kill("SIGKILL");
      }
      expect(readdirSync(join(victim, "logs"))).toEqual([]);
    });
  });

  test("that is replaced by a link between two launches makes the old log unreadable, and no other file of that name readable", async () => {
    prepare();
    const { json: run } = await launch("before");
    await hub.ended(run);
    expect(await hub.log(run)).toBe("written by before\n");
    renameSync(logs, `${logs}.kept`);
    const name = run.log_path.split("/").at(-1)!;
    symlinkSync(victim, logs);
    for (const plant of [() => {}, () => symlinkSync("file", join(victim, name))]) {
      plant();
      const answer = await hub.get(`${RUNS}/${run.run_id}/logs`);
      expect(answer).toMatchObject({ status: 410, json: { code: "log_gone" } });
    }
    expect((await hub.run(run)).status).toBe("completed");
    expect(readFileSync(join(victim, "file"), "utf8")).toBe("precious\n");
  });
});
