import type { Clock } from "../../../host-agent/system/clock.ts";
import { movableClocks } from "./clock.ts";

/** Starts a server with the clocks of the file that the command line names, prints that it serves, and stops it on SIGTERM. */
export async function serveUntilStopped(
  serve: (clocks: { now(): number; clock: Clock }) => Promise<{ stop(): Promise<void> }>,
): Promise<void> {
  const serving = await serve(movableClocks(process.argv[2]!));
  process.once("SIGTERM", () => void serving.stop().then(() => process.exit()));
  console.log("ready");
}
