import { once } from "node:events";

import { EXIT } from "./exit.ts";
import { printable, printableLines, safeJson } from "./printable.ts";

export type Output = ReturnType<typeof openOutput>;

/**
 * stdout and stderr of the process. A reader that closes the pipe (`| head -1`) ends
 * the process silently with the exit code of SIGPIPE, as with every other filter.
 */
export function openOutput({ stdout, stderr }: Pick<NodeJS.Process, "stdout" | "stderr">) {
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.brokenPipe);
    stderr.write(`hub: cannot write the output: ${error.message}\n`);
    process.exit(EXIT.unavailable);
  });
  // Without stderr, only the exit code can report a failure.
  stderr.on("error", () => {});

  /** Resolves when the stream takes more data, so that a slow reader costs no memory. */
  async function write(data: string | Uint8Array): Promise<void> {
    if (data.length > 0 && !stdout.write(data)) await once(stdout, "drain");
  }

  return {
    stdout,
    stderr,
    write,
    /** One sentence on stderr. */
    warn(sentence: string): void {
      stderr.write(`hub: ${printable(sentence)}\n`);
    },
    /** Information next to the result, on stderr. */
    note(line: string): void {
      stderr.write(`${printableLines(line)}\n`);
    },
    json: (value: unknown) => write(`${safeJson(value, 2)}\n`),
    /** One value of a stream, as one line of JSON. */
    jsonLine: (value: unknown) => write(`${safeJson(value)}\n`),
    /** The width of the terminal in columns; undefined when stdout is not a terminal. */
    get width(): number | undefined {
      return stdout.isTTY ? stdout.columns || 80 : undefined;
    },
  };
}
