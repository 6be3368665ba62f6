import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { freePort } from "../server.ts";
import { LOG_BYTES, PAGE_BYTES, type Peer, startProgram } from "./peer.ts";

/** Of the fault that a program is running. */
const ALREADY_STARTED = "<int>60</int>";

/** http://supervisord.org: one program for each slot, since it runs a program once at a time. */
export async function supervisord(): Promise<Peer> {
  const dir = await mkdtemp(join(tmpdir(), "hub-bench-"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  await writeFile(join(dir, "log"), randomBytes(LOG_BYTES / 2).toString("hex"));
  await writeFile(join(dir, "supervisord.conf"), configOf(dir, port));
  const argv = ["supervisord", "--nodaemon", "--configuration", join(dir, "supervisord.conf")];
  const program = await startProgram(argv, url);
  const connections = new Agent({ keepAlive: true });
  const call = (method: string, params: Param[]) => xmlRpc(`${url}/RPC2`, connections, method, params);
  const launch = async (slot: number): Promise<void> => {
    // Without waiting, else a program that has already ended is a fault; again while it has not noticed the end of the last.
    while ((await call("supervisor.startProcess", [`true:true_${slot}`, false])).includes(ALREADY_STARTED)) {
      await sleep(1);
    }
  };
  await launch(0);
  return {
    name: "supervisord",
    launch,
    status: async () => void (await call("supervisor.getProcessInfo", ["true:true_0"])),
    logPage: async () =>
      void (await call("supervisor.readProcessStdoutLog", ["logged", LOG_BYTES / 2, PAGE_BYTES])),
    async [Symbol.asyncDispose]() {
      connections.destroy();
      await program[Symbol.asyncDispose]();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function configOf(dir: string, port: number): string {
  const quiet = "autostart=false\nautorestart=false\nstartsecs=0\n";
  return (
    `[supervisord]\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=${dir}/pid\nchildlogdir=${dir}\n` +
    `[inet_http_server]\nport=127.0.0.1:${port}\n` +
    "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n" +
    `[program:true]\ncommand=/bin/true\nnumprocs=16\nprocess_name=true_%(process_num)d\n${quiet}` +
    `[program:logged]\ncommand=/bin/true\nstdout_logfile=${dir}/log\nstdout_logfile_maxbytes=0\n${quiet}`
  );
}

type Param = string | number | boolean;

/** http://xmlrpc.com/spec.md */
function valueOf(param: Param): string {
  if (typeof param === "string") return `<string>${param}</string>`;
  if (typeof param === "number") return `<int>${param}</int>`;
  return `<boolean>${param ? 1 : 0}</boolean>`;
}

function xmlRpc(url: string, agent: Agent, method: string, params: Param[]): Promise<string> {
  const list = params.map((param) => `<param><value>${valueOf(param)}</value></param>`).join("");
  const body = `<?xml version="1.0"?><methodCall><methodName>${method}</methodName><params>${list}</params></methodCall>`;
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "text/xml", "content-length": Buffer.byteLength(body) };
    request(url, { method: "POST", agent, headers }, (incoming) => {
      let text = "";
      incoming.on("data", (chunk) => (text += String(chunk)));
      incoming.on("end", () => {
        if (!text.includes("<fault>") || text.includes(ALREADY_STARTED)) resolve(text);
        else reject(new Error(`${method}: ${text}`));
      });
    })
      .on("error", reject)
      .end(body);
  });
}
