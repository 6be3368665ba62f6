import { CliError, EXIT } from "./exit.ts";

/**
 * Does `work` and lets Ctrl-C end it: the first aborts its signal and rejects with
 * the sentence of `message` and exit code 130; a second one ends the process.
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
