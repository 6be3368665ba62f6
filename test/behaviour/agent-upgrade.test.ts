import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { serveNode } from "../../adapters/node/serve.ts";
import { processesOf } from "../../host-agent/executor/process-tree.ts";
import { type AgentProcess, remoteEnv, startAgentProcess } from "../support/deployments.ts";
import { type Deploy, startHub, until } from "../support/hub.ts";

const LONG = { timeout: 240_000 };

/** An edge that stays, in front of an agent that is ended and started again, as systemd does with KillMode=process. */
function upgradable() {
  let agent: AgentProcess;
  let start: () => Promise<void>;
  const deploy: Deploy = async (setup) => {
    start = async () => void (agent = await startAgentProcess(setup));
    await start();
    const env = remoteEnv(setup, agent.url);
    const serving = await serveNode(readNodeConfig(env), env, () => {});
    return {
      url: serving.url,
      async stop() {
        await serving.stop();
        await agent.stop();
      },
    };
  };
  return { deploy, agent: () => agent, start: () => start() };
}

describe("an upgrade of the agent", () => {
  test.for<[NodeJS.Signals, string]>([
    ["SIGTERM", "2 runs left running"],
    ["SIGKILL", ""],
  ])(
    "stopped by %s, the old agent leaves its runs, logs and exit codes to the new one",
    LONG,
    async ([signal, lastWords]) => {
      const { deploy, agent, start } = upgradable();
      await using hub = await startHub({ deploy });
      const go = join(hub.dir, "go");
      const path = await hub.script(
        "wait.sh",
        `until [ -e "$1" ]; do echo tick; sleep 0.02; done\nexit "$2"`,
      );
      const launch = async (args: string) =>
        (await hub.post("/api/v1/scripts/runs", { path, args }, { headers: { "idempotency-key": args } }))
          .json;
      const during = await launch(`${go}-during 7`);
      const after = await launch(`${go}-after 0`);

      await agent().stop(signal);
      expect(agent().output()).toContain(lastWords);
      expect(await hub.get(`/api/v1/scripts/runs/${after.run_id}`)).toMatchObject({ status: 503 });
      const size = (await readFile(after.log_path)).length;
      await until(async () => (await readFile(after.log_path)).length > size || undefined);
      await writeFile(`${go}-during`, "");
      await until(() => processesOf(during.run_id).length === 0 || undefined);
      await start();

      expect(await hub.run(during)).toMatchObject({ status: "failed", exit_code: 7 });
      expect(await hub.run(after)).toEqual(after);
      expect(await launch(`${go}-after 0`)).toEqual(after);
      await writeFile(`${go}-after`, "");
      expect(await hub.ended(after)).toMatchObject({ status: "completed", exit_code: 0 });
      expect((await hub.log(after)).replaceAll("tick\n", "")).toBe("");
    },
  );
});
