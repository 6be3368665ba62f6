import { once } from "node:events";

import { EXIT } from "./exit.ts";
import { printable, safeJson } from "./printable.ts";

export type Output = ReturnType<typeof openOutput>;

/**
 * The client's stdout and stderr. A reader that hangs up (`| head -1`) ends the
 * client quietly with the code of SIGPIPE, as it ends every other filter.
 */
export function openOutput({ stdout, stderr }: Pick<NodeJS.Process, "stdout" | "stderr">) {
  stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(EXIT.brokenPipe);
    stderr.write(`hub: cannot write the output: ${error.message}\n`);
    process.exit(EXIT.unavailable);
  });
  // With nobody to tell, the exit code remains.
  stderr.on("error", () => {});

  /** Resolves when there is room for more, so that a slow reader costs no memory. */
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
    /** What a person reads beside the result, on stderr. */
    note(line: string): void {
      stderr.write(`${line}\n`);
    },
    json: (value: unknown) => write(`${safeJson(value, 2)}\n`),
    /** One value of a stream: JSON on a line of its own. */
    jsonLine: (value: unknown) => write(`${safeJson(value)}\n`),
    /** The width of the terminal, undefined when stdout is none. */
    get width(): number | undefined {
      return stdout.isTTY ? stdout.columns || 80 : undefined;
    },
  };
}
