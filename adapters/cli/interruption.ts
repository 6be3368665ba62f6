import { CliError, EXIT } from "./exit.ts";

/**
 * Ctrl-C while `work` waits for something that goes on without us: aborts the
 * work and rejects with what `message` says then. A second Ctrl-C ends the
 * client at once.
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  message: () => string,
): Promise<T> {
  const controller = new AbortController();
  const abort = () => controller.abort();
  process.once("SIGINT", abort);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) throw new CliError(message(), EXIT.interrupted, error);
    throw error;
  } finally {
    process.off("SIGINT", abort);
  }
}
