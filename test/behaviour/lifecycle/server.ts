// server.ts CLOCK_FILE: the Node adapter with a clock that can be moved. Prints its address once it serves; SIGTERM stops it.
import { readNodeConfig } from "../../../adapters/node/config.ts";
import { serveNode } from "../../../adapters/node/serve.ts";
import { offsetClock } from "../prove/clock.ts";

const serving = await serveNode(
  readNodeConfig(process.env),
  process.env,
  () => {},
  offsetClock(process.argv[2]!),
);
process.once("SIGTERM", () => void serving.stop().then(() => process.exit()));
console.log(serving.url);
