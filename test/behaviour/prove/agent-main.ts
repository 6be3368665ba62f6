// agent-main.ts CLOCK_FILE: the host-agent as `npm run agent` runs it, with clocks that can be moved.
import { readDoorConfig } from "../../../host-agent/config.ts";
import { serveAgent } from "../../../host-agent/serve-agent.ts";
import { serveUntilStopped } from "./main-loop.ts";

await serveUntilStopped(({ now, clock }) =>
  serveAgent(readDoorConfig(process.env), process.env, console.error, now, clock),
);
