import { chmod, rm, stat, writeFile } from "node:fs/promises";
import { execFileSync } from "node:child_process";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { processesOf } from "../../../host-agent/executor/process-tree.ts";
import { obstacleFor } from "../../../host-agent/executor/run-as.ts";
import { type Hub, nodeEmbedded, startHub, until } from "../../support/hub.ts";
import { CAN_BE_NOBODY, NOBODY_UID, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { childrenOf } from "../../support/processes.ts";
import { needs } from "../../support/needs.ts";

/** The fields of passwd(5), as this host has them. */
const NOBODY = CAN_BE_NOBODY
  ? execFileSync("getent", ["passwd", "nobody"], { encoding: "utf8" }).split(":")
  : [];
const RUN_AS = { HUB_RUN_AS: "nobody" };

/** A Hub whose scripts are open to everybody, and whose state is not. */
async function startOpenHub(env: Record<string, string> = RUN_AS): Promise<Hub> {
  const hub = await startHub({ env });
  await chmod(hub.dir, 0o755);
  return hub;
}

describe("HUB_RUN_AS", needs(CAN_BE_NOBODY, WHY_NOT_NOBODY), () => {
  test("starts runs as that user, with its name, home and one group, and a log that the run can reopen", async () => {
    await using hub = await startOpenHub();
    const run = await hub.runScript(
      `id -u; id -G; echo "$USER $LOGNAME $HOME"; echo again >>/dev/stderr; exit 7`,
    );
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 7 });
    const [, , uid, gid, , home] = NOBODY;
    expect(await hub.log(run)).toBe(`${uid}\n${gid}\nnobody nobody ${home}\nagain\n`);
  });

  test("opens to a run its own folder and no other part of the state folder", async () => {
    await using hub = await startOpenHub();
    const other = await hub.runScript("sleep 60");
    const run = await hub.runScript(
      `for path in ${hub.stateDir} ${hub.stateDir}/runs.db ${hub.stateDir}/audit.log ${other.log_path} \\
        ${hub.stateDir}/runs/${other.run_id} ${hub.keysFile}; do
        cat "$path" >/dev/null 2>&1 && echo "read $path"; ls "$path" >/dev/null 2>&1 && [ -d "$path" ] && echo "listed $path"
      done
      ls -l /proc/self/fd | grep -c /runs/
      kill -0 ${process.pid} 2>/dev/null && echo "may signal the agent"
      true`,
    );
    await hub.ended(run);
    expect(await hub.log(run)).toBe("0\n");
    expect((await stat(hub.stateDir)).mode & 0o777).toBe(0o700);
  });

  test("lets a kill reach the whole process tree, and an exit code survive a restart", async () => {
    await using hub = await startOpenHub();
    const run = await hub.runScript("setsid sleep 60 & sleep 60");
    await until(() => processesOf(run.run_id).length >= 3 || undefined);
    const late = await hub.runScript("sleep 1; exit 9");
    await hub.restart();
    expect(await hub.kill(run)).toMatchObject({ status: 200 });
    expect(await hub.ended(run)).toMatchObject({ status: "killed" });
    expect(processesOf(run.run_id)).toEqual([]);
    expect(await hub.ended(late)).toMatchObject({ exit_code: 9 });
  });

  test.for<[string, (hub: Hub, path: string) => Promise<void>, string]>([
    ["a script that it may not read", (_hub, path) => chmod(path, 0o700), "may not be r"],
    [
      "a folder that it may not enter",
      (hub) => chmod(hub.root, 0o700),
      "its working folder may not be entered",
    ],
  ])("refuses %s, and starts nothing", async ([, close, message]) => {
    await using hub = await startOpenHub();
    const path = await hub.script("closed.sh", "echo started");
    await close(hub, path);
    const answer = await hub.post("/api/v1/scripts/runs", { path });
    expect(answer).toMatchObject({ status: 422, json: { code: "launch_failed" } });
    expect(answer.json.detail).toContain(message);
    expect(answer.json.detail).toContain("nobody");
  });

  test("is neither blocked nor misled by files that a run puts into its folder", async () => {
    await using hub = await startOpenHub();
    const secret = join(hub.dir, "secret");
    await writeFile(secret, "  0\n");
    for (const trick of [
      "mkfifo exit",
      `ln -s ${secret} exit`,
      "mkdir exit",
      "rm -f started; ln -s /etc/shadow started",
    ]) {
      const run = await hub.runScript("sleep 60");
      const folder = join(hub.stateDir, "runs", run.run_id);
      // What a run could do that got hold of its folder.
      await rm(join(folder, "exit"));
      execFileSync("/bin/sh", ["-c", trick], { cwd: folder });
      expect(await hub.run(run)).toMatchObject({ status: "running" });
      await hub.kill(run, { signal: "SIGKILL" });
      expect(await hub.ended(run)).toMatchObject({ status: "killed" });
    }
  });

  test("works in terminal mode", async () => {
    await using hub = await startOpenHub();
    const run = await hub.runScript("id -un; test -t 1 && echo terminal; exit 3", { terminal: true });
    expect(await hub.ended(run)).toMatchObject({ exit_code: 3 });
    expect(await hub.log(run)).toBe("nobody\nterminal\n");
  });

  test("fails a launch alone, after some seconds, when the check before it is stopped by another process of the user", async () => {
    const user = { username: "nobody", uid: NOBODY_UID, gid: NOBODY_UID, homedir: "/", shell: "/bin/sh" };
    const command = { cwd: "/", program: "/bin/true", script: undefined };
    const before = new Set(childrenOf(process.pid));
    const stopped: number[] = [];
    /** The check may end before the signal reaches it: then another one is stopped. */
    const answerOfStopped = async (attempts: number): Promise<unknown> => {
      const checked = obstacleFor(user, command).catch((error: unknown) => error);
      for (const pid of childrenOf(process.pid).filter((child) => !before.has(child))) {
        process.kill(pid, "SIGSTOP");
        stopped.push(pid);
      }
      return (await checked) ?? (attempts > 1 ? answerOfStopped(attempts - 1) : undefined);
    };

    expect(await answerOfStopped(50)).toMatchObject({
      code: "host_unavailable",
      extras: { retryAfterSeconds: 1 },
    });
    expect(await obstacleFor(user, command)).toBeUndefined();
    expect(childrenOf(process.pid).filter((pid) => stopped.includes(pid))).toEqual([]);
  });

  test.for([
    ["nobody-of-that-name", "there is no user"],
    ["nobody:no-such-group", "there is no group"],
    ["root", "that is root itself"],
  ])("%s refuses the start", async ([value, message]) => {
    await using hub = await startHub();
    const env = { ...hub.env, HUB_RUN_AS: value!, HUB_STATE_DIR: join(hub.dir, "other") };
    await expect(nodeEmbedded({ dir: hub.dir, env })).rejects.toThrow(message);
  });
});
