// bare-spawner.ts LOG: the least that a launch can be, for comparison: spawn of /bin/true with its output in a log.
//
// It is a separate process, because a fork costs what its parent weighs: in the bench's own process the baseline
// would get slower with every answer that the bench has read.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";

import { time } from "./figures.ts";

const log = openSync(process.argv[2]!, "a");

process.on("message", async ({ count, concurrency }: { count: number; concurrency: number }) => {
  process.send!(await time(count, concurrency, bareSpawn));
});

async function bareSpawn(): Promise<void> {
  const child = spawn("/bin/true", [], { detached: true, stdio: ["ignore", log, log] });
  await once(child, "spawn");
}
