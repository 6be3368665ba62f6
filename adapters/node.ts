import { ConfigError } from "../host-agent/config.ts";
import { banner } from "./banner.ts";
import { readNodeConfig } from "./config.ts";
import { logLines } from "../host-agent/log-lines.ts";
import { type Serving, serveNode } from "./serve.ts";

const STDERR = 2;

try {
  const config = readNodeConfig(process.env);
  const lines = logLines(STDERR);
  const serving = await serveNode(config, process.env, lines.log);
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => {
      void stop(serving, signal, lines.flush);
    });
  }
  // Last, so that whoever reads it may already send a signal.
  console.log(await banner(config, serving, process.stdout));
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  console.error(`Cannot start.\n${error.message}`);
  process.exitCode = 78; // EX_CONFIG of sysexits(3)
}

async function stop(serving: Serving, signal: string, flush: () => void): Promise<void> {
  const runs = describeRuns(await serving.countAlive());
  await serving.stop();
  flush();
  console.log(`Stopped by ${signal}; ${runs}.`);
  process.exit();
}

function describeRuns(alive: number | undefined): string {
  if (alive === undefined) return "the host-agent and its runs go on";
  return alive === 0 ? "no runs are alive" : `${alive} run${alive === 1 ? "" : "s"} left running`;
}
