import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { isPopulated, readCgroupFile, writeCgroupFile } from "../../host-agent/executor/cgroup-files.ts";
import { identify } from "../../host-agent/executor/process-identity.ts";
import { commandLine } from "../../host-agent/executor/process-tree.ts";
import type { RunRecord } from "../../host-agent/protocol/run.ts";
import { HAS_CGROUP2, pidsIn, sharedCgroup, tempCgroup } from "../support/cgroup.ts";
import { type Hub, type HubOptions, sharedHub, startHub, until } from "../support/hub.ts";
import { needs, WHY_NO_CGROUP2 } from "../support/needs.ts";
import { CAN_BE_NOBODY, WHY_NOT_NOBODY } from "../support/other-user.ts";

/** A Hub whose runs get leaves in a cgroup of this test. */
async function contained(options: HubOptions = {}): Promise<{ hub: Hub; root: string }> {
  const root = tempCgroup();
  const hub = await startHub({ ...options, env: { HUB_CGROUP: root, ...options.env } });
  return { hub, root };
}

/** The text of a file once a run has written it. */
async function written(path: string): Promise<string> {
  return until(() => (existsSync(path) && readFileSync(path, "utf8").trim()) || undefined);
}

/** The setting of the next start. */
function useCgroup({ env }: Hub, value: string): void {
  (env as Record<string, string>)["HUB_CGROUP"] = value;
}

/** The processes of a leaf that have become `sleep 600`. */
const sleepersIn = (leaf: string) =>
  pidsIn(leaf).filter((pid) => commandLine(pid).replaceAll("\0", " ") === "sleep 600 ");
const leafOf = (root: string, { run_id }: Pick<RunRecord, "run_id">) => join(root, run_id);
const isGone = async (path: string) => until(() => !existsSync(path) || undefined);

/** Writes its pid and stays, as a process that a run tries to hide. */
const stay = (file: string) => `/bin/sh -c 'echo $$ >"${file}"; exec sleep 600'`;

/** Whether the process is alive: the ended one of a run may wait for the host's init as a zombie. */
const isLiving = (pid: string | number) => identify(Number(pid)) !== undefined;

describe("a run in a cgroup", needs(HAS_CGROUP2, WHY_NO_CGROUP2), () => {
  const place = sharedCgroup();
  const shared = sharedHub({ env: { HUB_CGROUP: place } });

  test("is in a leaf with its id from before its command starts, and its command has no descriptor of the way into it", async () => {
    const hub = shared();
    const run = await hub.runScript(`grep ^0:: /proc/self/cgroup; ls /proc/$$/fd | tr '\\n' ' '; sleep 600`);
    const log = await until(async () => {
      const text = await hub.log(run);
      return text.includes("\n") && text.endsWith(" ") ? text : undefined;
    });
    const [cgroup, descriptors] = log.split("\n");
    expect(cgroup!.endsWith(`/${run.run_id}`), cgroup).toBe(true);
    // bash has a descriptor of its script, far above.
    expect(
      descriptors!
        .trim()
        .split(" ")
        .filter((fd) => Number(fd) < 10),
    ).toEqual(["0", "1", "2"]);
    expect(pidsIn(leafOf(place, run))).toContain(Number(run.pid));
    await hub.kill(run, { signal: "SIGKILL" });
    await hub.ended(run);
  });

  test("that ends leaves its exit code, what it used, and no cgroup", async () => {
    const hub = shared();
    const run = await hub.runScript("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3");
    const record = await hub.ended(run);
    expect(record).toMatchObject({ status: "failed", exit_code: 3, left_behind: 0 });
    expect(record.usage!.cpu_seconds).toBeGreaterThan(0);
    await isGone(leafOf(place, run));
  });

  test("has neither `usage` nor `left_behind` in its record while it is alive", async () => {
    const hub = shared();
    const run = await hub.runScript("sleep 600");
    expect(Object.keys(await hub.run(run))).not.toContain("usage");
    expect(Object.keys(run)).not.toContain("left_behind");
    await hub.kill(run, { signal: "SIGKILL" });
    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 137, left_behind: 0 });
  });

  test.for([
    ["SIGTERM", 143],
    ["SIGINT", 130],
    ["SIGKILL", 137],
  ] as const)(
    "cannot hide a daemon from %s with a separate session, environment and parent",
    async ([signal, code]) => {
      const hub = shared();
      // Each signal has its own file: in that of the one before stands the pid of another daemon.
      const file = join(hub.dir, `daemon-${signal}`);
      // A shell that is not interactive starts background commands with SIGINT ignored: env gives it back.
      const run = await hub.runScript(
        `(setsid env -i --default-signal=INT ${stay(file)} &); until test -s "${file}"; do sleep 0.02; done; exec sleep 600`,
      );
      const pid = await written(file);
      // The shell may outlive SIGINT while it loops: it ignores one that its `sleep` has not died of (bash(1), SIGNALS).
      await until(() => sleepersIn(leafOf(place, run)).length === 2 || undefined);
      await hub.kill(run, { signal });
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: code });
      expect(isLiving(pid)).toBe(false);
      await isGone(leafOf(place, run));
    },
  );

  test("cannot escape SIGKILL by forking without a pause", async () => {
    const hub = shared();
    const file = join(hub.dir, "forks");
    const run = await hub.runScript(
      `f() { (setsid env -i /bin/sh -c 'sleep 600 & sleep 600' &) ; }; for i in 1 2 3 4 5 6 7 8; do f; done; echo go >"${file}"; while :; do f; sleep 0.02; done`,
    );
    await written(file);
    expect((await hub.kill(run, { signal: "SIGKILL" })).json).toMatchObject({ status: "killed" });
    await hub.ended(run);
    await isGone(leafOf(place, run));
  });

  test("that the id of another run is given to is not killed with that run", async () => {
    const hub = shared();
    const victim = await hub.runScript("sleep 600");
    const file = join(hub.dir, "forger");
    const forger = await hub.runScript(`HUB_RUN_ID=${victim.run_id} ${stay(file)}`);
    const pid = await written(file);
    await hub.kill(victim, { signal: "SIGKILL" });
    await hub.ended(victim);
    expect(isLiving(pid)).toBe(true);
    expect((await hub.run(forger)).status).toBe("running");
    await hub.kill(forger, { signal: "SIGKILL" });
    expect((await hub.ended(forger)).status).toBe("killed");
  });

  test.for(["SIGSTOP", "cgroup.freeze"])(
    "stays `running` while it is stopped by %s, and SIGKILL ends it",
    async (by) => {
      const hub = shared();
      const run = await hub.runScript("sleep 600 & echo ready; wait");
      const leaf = leafOf(place, run);
      await until(async () => (await hub.log(run)).includes("ready") || undefined);
      if (by === "SIGSTOP") for (const pid of pidsIn(leaf)) process.kill(pid, "SIGSTOP");
      else {
        writeCgroupFile(leaf, "cgroup.freeze", "1");
        await until(() => readCgroupFile(leaf, "cgroup.events")?.includes("frozen 1") || undefined);
      }
      expect((await hub.run(run)).status).toBe("running");
      await hub.kill(run, { signal: "SIGKILL" });
      expect((await hub.ended(run)).status).toBe("killed");
      await isGone(leaf);
    },
  );

  test("that is frozen receives SIGTERM: it goes on with it", async () => {
    const hub = shared();
    const run = await hub.runScript(`trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.02; done`);
    await until(async () => (await hub.log(run)).includes("ready") || undefined);
    writeCgroupFile(leafOf(place, run), "cgroup.freeze", "1");
    await hub.kill(run);
    expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 9 });
    expect(await hub.log(run)).toContain("bye");
  });

  test("delivers SIGTERM once to each of its processes", async () => {
    const hub = shared();
    const count = `trap 'echo got-$1' TERM; echo ready; i=0; while [ $i -lt 40 ]; do sleep 0.02; i=$((i+1)); done`;
    const run = await hub.runScript(
      `one() { ${count}; }; (one a) & (setsid /bin/bash -c '${count.replaceAll("'", `'"'"'`)}' x b) & trap : TERM; wait; wait; wait; wait`,
    );
    await until(async () => (await hub.log(run)).split("ready").length === 3 || undefined);
    await hub.kill(run);
    await hub.ended(run);
    const log = await hub.log(run);
    expect([log.match(/got-a/g)?.length, log.match(/got-b/g)?.length], log).toEqual([1, 1]);
  });

  test("reports the processes that it leaves behind, which go on; their cgroup is removed once they have ended", async () => {
    const hub = shared();
    const file = join(hub.dir, "left");
    const run = await hub.runScript(
      `(setsid env -i ${stay(file)} &); until test -s "${file}"; do sleep 0.02; done; exit 0`,
    );
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0, left_behind: 1 });
    const pid = Number(await written(file));
    // And the pump of the run, until nothing holds its output any more.
    expect(pidsIn(leafOf(place, run))).toContain(pid);
    process.kill(pid, "SIGKILL");
    // The sweep that is made each minute may have removed it by then.
    await until(() => isPopulated(leafOf(place, run)) !== true || undefined);
    // The sweep is made each minute, and at each start.
    await hub.restart();
    await isGone(leafOf(place, run));
  });
});

describe("a host with cgroups", needs(HAS_CGROUP2, WHY_NO_CGROUP2), () => {
  test("ends what a run leaves behind with HUB_KILL_LEFT_BEHIND=1", async () => {
    const { hub, root } = await contained({ env: { HUB_KILL_LEFT_BEHIND: "1" } });
    await using _ = hub;
    const file = join(hub.dir, "left");
    const run = await hub.runScript(
      `(setsid env -i ${stay(file)} &); until test -s "${file}"; do sleep 0.02; done; exit 0`,
    );
    expect(await hub.ended(run)).toMatchObject({ status: "completed", exit_code: 0, left_behind: 1 });
    await isGone(leafOf(root, run));
    expect(isLiving(await written(file))).toBe(false);
  });

  test.for([true, false])(
    "follows a recipe's `kill_left_behind`: %s, whatever the setting says",
    async (kill) => {
      const recipe = {
        recipe_id: "leaves",
        title: "Leaves",
        description: "Leaves a daemon",
        command: ["/bin/sh", "-c", "(setsid env -i /bin/sleep 600 &) ; exit 0"],
        kill_left_behind: kill,
      };
      const { hub, root } = await contained({
        recipes: [recipe],
        env: { HUB_KILL_LEFT_BEHIND: kill ? "0" : "1" },
      });
      await using _ = hub;
      const { json } = await hub.post("/api/v1/pipelines/runs", { recipe_id: "leaves", args: "" });
      const record = await hub.ended(json as RunRecord);
      expect(record).toMatchObject({ status: "completed", left_behind: 1 });
      await until(() => existsSync(leafOf(root, record)) !== kill || undefined);
    },
  );

  test(
    "contains a run of another user, with HUB_RUN_AS",
    needs(HAS_CGROUP2 && CAN_BE_NOBODY, HAS_CGROUP2 ? WHY_NOT_NOBODY : WHY_NO_CGROUP2),
    async () => {
      const { hub, root } = await contained({ env: { HUB_RUN_AS: "nobody" } });
      await using _ = hub;
      await chmod(hub.dir, 0o755);
      const run = await hub.runScript(`id -u; (setsid env -i /bin/sleep 600 &); exec sleep 600`);
      await until(async () => (await hub.log(run)) === "65534\n" || undefined);
      await until(() => pidsIn(leafOf(root, run)).length >= 3 || undefined);
      const members = pidsIn(leafOf(root, run));
      await hub.kill(run);
      expect(await hub.ended(run)).toMatchObject({ status: "killed", exit_code: 143, left_behind: 0 });
      expect(members.filter(isLiving)).toEqual([]);
    },
  );

  test("refuses a recipe whose limit it cannot enforce, and starts nothing", async () => {
    const recipe = {
      recipe_id: "small",
      title: "Small",
      description: "Has a limit",
      command: ["/bin/true"],
      memory_max: "2G",
    };
    await using hub = await startHub({ recipes: [recipe], env: { HUB_CGROUP: "off" } });
    const answer = await hub.post("/api/v1/pipelines/runs", { recipe_id: "small", args: "" });
    expect(answer.status).toBe(422);
    expect(answer.json).toMatchObject({
      code: "launch_failed",
      detail: expect.stringContaining("memory_max"),
    });
    const preview = await hub.post("/api/v1/pipelines/previews", { recipe_id: "small", args: "" });
    expect(preview.json).toMatchObject({ would_start: false });
  });

  test("does not start with a default limit that it cannot enforce", async () => {
    await expect(startHub({ env: { HUB_CGROUP: "off", HUB_MEMORY_MAX: "2G" } })).rejects.toThrow(
      "HUB_MEMORY_MAX: cannot be enforced, because HUB_CGROUP is off. Remove it, or see docs/deploy.md, A cgroup for each run",
    );
  });

  test("finds a run again after a restart, also with HUB_CGROUP=off, and kills it in its leaf", async () => {
    const { hub, root } = await contained();
    await using _ = hub;
    const file = join(hub.dir, "daemon");
    const run = await hub.runScript(
      `(setsid env -i ${stay(file)} &); until test -s "${file}"; do sleep 0.02; done; exec sleep 600`,
    );
    const pid = await written(file);
    await hub.restart(() => useCgroup(hub, "off"));
    expect((await hub.run(run)).status).toBe("running");
    await hub.kill(run, { signal: "SIGKILL" });
    expect((await hub.ended(run)).status).toBe("killed");
    expect(isLiving(pid)).toBe(false);
    await isGone(leafOf(root, run));
  });

  test("finishes a run that was started with HUB_CGROUP=off as it was started", async () => {
    const { hub, root } = await contained({ env: { HUB_CGROUP: "off" } });
    await using _ = hub;
    const run = await hub.runScript("trap 'exit 4' TERM; while :; do sleep 0.02; done");
    await hub.restart(() => useCgroup(hub, root));
    await hub.kill(run);
    const record = await hub.ended(run);
    expect(record).toMatchObject({ status: "killed", exit_code: 4 });
    expect(Object.keys(record)).not.toContain("left_behind");
  });

  test("removes the leaf of a run that has ended while no agent was alive", async () => {
    const { hub, root } = await contained();
    await using _ = hub;
    const go = join(hub.dir, "go");
    const run = await hub.runScript(`until test -e "${go}"; do sleep 0.02; done; exit 5`);
    await hub.restart(async () => {
      writeFileSync(go, "");
      await until(() => isPopulated(leafOf(root, run)) === false || undefined);
    });
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 5, left_behind: 0 });
    await isGone(leafOf(root, run));
  });
});
