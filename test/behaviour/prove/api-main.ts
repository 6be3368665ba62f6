// api-main.ts CLOCK_FILE: the Node adapter as `npm start` runs it, with clocks that can be moved.
import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import { serveUntilStopped } from "./main-loop.ts";

await serveUntilStopped(({ now, clock }) =>
  serveNode(readNodeConfig(process.env), process.env, console.error, now, clock),
);
