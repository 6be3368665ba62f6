import { runService } from "../host-agent/run-service.ts";
import { banner } from "./banner.ts";
import { readNodeConfig } from "./config.ts";
import { serveNode } from "./serve.ts";

await runService(async (log) => {
  const config = readNodeConfig(process.env);
  const serving = await serveNode(config, process.env, log);
  return { ...serving, banner: await banner(config, serving, process.stdout) };
});
