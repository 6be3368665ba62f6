import { offsetClock } from "./clock.ts";

/** Starts a server with the clock that the command line names, prints that it serves, and stops it on SIGTERM. */
export async function serveUntilStopped(
  serve: (now: () => number) => Promise<{ stop(): Promise<void> }>,
): Promise<void> {
  const serving = await serve(offsetClock(process.argv[2]!));
  process.once("SIGTERM", () => void serving.stop().then(() => process.exit()));
  console.log("ready");
}
