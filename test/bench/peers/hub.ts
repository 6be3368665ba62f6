import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { request, Agent } from "node:http";

import { startServer } from "../server.ts";
import { LOG_BYTES, PAGE_BYTES, type Peer } from "./peer.ts";

const RUNS = "/api/v1/scripts/runs";

/** This product, as `npm start` runs it, with a key. */
export async function hub(): Promise<Peer> {
  const server = await startServer();
  const { run_id } = await server.launch();
  let record = await server.get(`${RUNS}/${run_id}`);
  while (record["ended_at"] === null) record = await server.get(`${RUNS}/${run_id}`);
  await writeFile(String(record["log_path"]), randomBytes(LOG_BYTES / 2).toString("hex"));
  const connections = new Agent({ keepAlive: true });
  const get = (path: string, accept: string) =>
    new Promise<void>((resolve, reject) => {
      const headers = { authorization: server.headers.authorization, accept };
      request(server.url + path, { agent: connections, headers }, (incoming) => {
        incoming.resume().on("end", () => {
          if (incoming.statusCode === 200) resolve();
          else reject(new Error(`${path}: ${incoming.statusCode}`));
        });
      })
        .on("error", reject)
        .end();
    });
  return {
    name: "this product",
    launch: async () => void (await server.launch()),
    status: () => get(`${RUNS}/${run_id}`, "application/json"),
    logPage: () => get(`${RUNS}/${run_id}/logs?after=${LOG_BYTES / 2}&max_bytes=${PAGE_BYTES}`, "text/plain"),
    async [Symbol.asyncDispose]() {
      connections.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}
