// adapters/node/ runs the handlers in one Node process. Belongs here: what Node provides for them, such as the HTTP server,
// settings, the keys file, the KV and the embedded agent. It may import handlers/ and host-agent/.
import { runService } from "../../host-agent/system/service.ts";
import { settingWarnings } from "../../host-agent/setting-warnings.ts";
import { banner } from "./banner.ts";
import { agentKeyFile, readNodeConfig } from "./config.ts";
import { serveNode } from "./serve.ts";

await runService(async (log) => {
  const { env } = process;
  const config = readNodeConfig(env);
  const serving = await serveNode(config, env, log);
  const secretFiles = { HUB_KEYS_FILE: config.keysFile, ...agentKeyFile(env) };
  return {
    ...serving,
    banner: await banner(config, serving, process.stdout),
    warnings: [...settingWarnings(env, secretFiles), ...serving.warnings],
  };
});
