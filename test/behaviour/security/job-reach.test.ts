import { readlinkSync } from "node:fs";
import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import type { RunRecord } from "../../../host-agent/protocol/run.ts";
import { startAgentProcess } from "../../support/deployments.ts";
import { startHub, until } from "../../support/hub.ts";
import { CAN_BE_NOBODY, WHY_NOT_NOBODY } from "../../support/other-user.ts";
import { needs } from "../../support/needs.ts";

/** What a job tries, each line ending as `can …` or `cannot …`. It opens for writing, and writes only into what is its own to lose. */
const PROBE = `
  state=$1 keys=$2 agent=$3 socket=$4 sibling=$5 siblinglog=$6 wrapper=$8
  try() { name=$1; shift; if "$@" 2>/dev/null >&2; then echo "can $name"; else echo "cannot $name"; fi; }
  opens() { for path; do if ( exec 9<>"$path" ) 2>/dev/null; then return 0; fi; done; return 1; }
  puts() { for path; do if ( : >"$path" ) 2>/dev/null; then return 0; fi; done; return 1; }
  try "read the state" head -c 1 "$state/runs.db"
  try "change the state" opens "$state/runs.db"
  try "read the audit log" head -c 1 "$state/audit.log"
  try "change the audit log" opens "$state/audit.log"
  try "read the keys" head -c 1 "$keys"
  try "change the keys" opens "$keys"
  try "signal the agent" kill -0 "$agent"
  try "read the agent's environment" head -c 1 "/proc/$agent/environ"
  try "open the agent's memory" sh -c 'exec 9<"$1"' sh "/proc/$agent/mem"
  try "connect to the agent's socket" curl -s -o /dev/null --unix-socket "$socket" http://host-agent/agent/v1/health
  try "open a sibling's log by its path" opens "$siblinglog"
  try "put a file into a sibling's folder by its path" puts "$state/runs/$7/forged"
  try "signal a sibling" kill -0 "$sibling"
  try "read a sibling's environment" head -c 1 "/proc/$sibling/environ"
  try "open a sibling's log" opens "$siblinglog" "/proc/$sibling/fd/1"
  try "open a sibling's exit code" opens "$state/runs/$7/exit" "/proc/$wrapper/fd/"*/exit
  try "open its own exit code" opens "$state/runs/$HUB_RUN_ID/exit" "/proc/$PPID/fd/"*/exit
  true`;

const OF_THE_AGENT = [
  "read the state",
  "change the state",
  "read the audit log",
  "change the audit log",
  "read the keys",
  "change the keys",
  "signal the agent",
  "read the agent's environment",
  "open the agent's memory",
  "connect to the agent's socket",
  "open a sibling's log by its path",
  "put a file into a sibling's folder by its path",
];
const OF_OTHER_JOBS = [
  "signal a sibling",
  "read a sibling's environment",
  "open a sibling's log",
  "open a sibling's exit code",
  "open its own exit code",
];

/** False for what is a setting of the kernel between processes of one user (kernel.yama.ptrace_scope). */
const isFixed = (line: string) => !line.endsWith("memory");

/** What a job reaches under an agent with these settings. */
async function probe(env: Record<string, string>): Promise<string[]> {
  await using hub = await startHub({ env });
  // With another user for the jobs, the scripts have to be open to it.
  await chmod(hub.dir, 0o755);
  const agent = await startAgentProcess({
    dir: hub.dir,
    env: { ...hub.env, HUB_STATE_DIR: join(hub.dir, "agent-state") },
  });
  try {
    const sibling = await hub.runScript("sleep 60");
    const pid = await until(() => commandOf(sibling));
    const path = await hub.script("probe.sh", PROBE);
    const words = [hub.stateDir, hub.keysFile, agent.child.pid, agent.url.slice("unix:".length), pid];
    const { json: run } = await hub.post("/api/v1/scripts/runs", {
      path,
      args: [...words, sibling.log_path, sibling.run_id, sibling.pid].join(" "),
    });
    await hub.ended(run);
    return (await hub.log(run)).trimEnd().split("\n");
  } finally {
    await agent.stop();
  }
}

describe("a hostile job", () => {
  test("with the user of the agent reaches everything of the agent and of other jobs", async () => {
    const can = [...OF_THE_AGENT, ...OF_OTHER_JOBS].map((what) => `can ${what}`);
    expect((await probe({})).filter(isFixed)).toEqual(can.filter(isFixed));
  });

  test(
    "with a separate user reaches nothing of the agent and everything of other jobs",
    needs(CAN_BE_NOBODY, WHY_NOT_NOBODY),
    async () => {
      expect(await probe({ HUB_RUN_AS: "nobody" })).toEqual([
        ...OF_THE_AGENT.map((what) => `cannot ${what}`),
        ...OF_OTHER_JOBS.map((what) => `can ${what}`),
      ]);
    },
  );

  test("gains nothing by a forged claim, nor by a file in the place of its log", async () => {
    await using hub = await startHub();
    const run = await hub.runScript(
      `echo agent >"${hub.stateDir}/runs/$HUB_RUN_ID/started"; echo kept
       until log=$(readlink -e "${hub.stateDir}/logs/by-run/$HUB_RUN_ID.log") && test -s "$log"; do sleep 0.02; done
       mv "$log" "$log.kept"; echo forged >"$log"
       until test -e "${hub.dir}/go"; do sleep 0.02; done; exit 4`,
    );
    const log = () => hub.get(`/api/v1/scripts/runs/${run.run_id}/logs`);
    await until(async () => (await log()).status === 410 || undefined);
    expect(await hub.run(run)).toMatchObject({ status: "running" });
    await hub.restart();
    expect(await hub.run(run)).toMatchObject({ status: "running" });
    await hub.script("../go", "");
    expect(await hub.ended(run)).toMatchObject({ status: "failed", exit_code: 4 });
    expect((await log()).json).toMatchObject({ code: "log_gone" });
    expect(await readFile(`${run.log_path}.kept`, "utf8")).toBe("kept\n");
  });
});

/** The pid of the run's command, once it has replaced the fork of its wrapper. */
async function commandOf({ pid }: RunRecord): Promise<string | undefined> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  // The other child is the pump.
  return children
    .trim()
    .split(" ")
    .find((child) => child !== "" && readlinkSync(`/proc/${child}/exe`).includes("bash"));
}
