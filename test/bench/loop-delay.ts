// loop-delay.ts: loaded into a server with `--import`. On the message "start" it begins to measure how long the event
// loop is held, and on "stop" it answers with the longest time in milliseconds.
import { monitorEventLoopDelay } from "node:perf_hooks";

const RESOLUTION_MS = 1;

const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });

process.on("message", (order) => {
  if (order === "start") {
    histogram.reset();
    histogram.enable();
  } else {
    histogram.disable();
    process.send?.({ worstMs: Math.max(histogram.max / 1e6 - RESOLUTION_MS, 0) });
  }
});
process.channel?.unref();
