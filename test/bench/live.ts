// npm run bench:live: what thousands of live runs cost, alone.
import { table } from "./figures.ts";
import { measureLiveRuns } from "./live-runs.ts";

console.log(table(await measureLiveRuns()));
process.exit();
