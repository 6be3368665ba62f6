// npm run bench:live: what thousands of live runs cost, alone.
import { table } from "./figures.ts";
import { measureLiveRuns } from "./live-runs.ts";
import { keepRatios, previousRatios } from "./previous.ts";

const figures = await measureLiveRuns();
console.log(table(figures, previousRatios()));
if (process.argv.includes("--keep")) keepRatios(figures);
process.exit();
