import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { freePort } from "../server.ts";
import { type Peer, startProgram } from "./peer.ts";

/** https://github.com/adnanh/webhook, which answers after the command has ended. It keeps nothing of a command. */
export async function webhook(): Promise<Peer> {
  const dir = await mkdtemp(join(tmpdir(), "hub-bench-"));
  const hooks = join(dir, "hooks.json");
  const hook = { id: "true", "execute-command": "/bin/true", "include-command-output-in-response": true };
  await writeFile(hooks, JSON.stringify([hook]));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const argv = ["webhook", "-hooks", hooks, "-ip", "127.0.0.1", "-port", String(port)];
  const program = await startProgram(argv, url);
  const connections = new Agent({ keepAlive: true });
  return {
    name: "webhook",
    launch: () =>
      new Promise((resolve, reject) => {
        request(`${url}/hooks/true`, { method: "POST", agent: connections }, (incoming) => {
          incoming.resume().on("end", () => {
            if (incoming.statusCode === 200) resolve();
            else reject(new Error(`webhook: ${incoming.statusCode}`));
          });
        })
          .on("error", reject)
          .end();
      }),
    async [Symbol.asyncDispose]() {
      connections.destroy();
      await program[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
