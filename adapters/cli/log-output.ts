import type { RunRecord } from "../../host-agent/protocol/run.ts";
import type { LogBytes } from "../client/log-bytes.ts";
import type { Context } from "./context.ts";
import { terminalFilter } from "./printable.ts";

/**
 * Prints pages of a log: unchanged bytes into a pipe or a file, and with `raw`; safe text
 * on a terminal; one JSON object for each page with --json.
 */
export function openLogOutput({ output, json }: Context, run: RunRecord, raw: boolean) {
  const filter = terminalFilter();
  const isUnchanged = raw || !output.stdout.isTTY;
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  return {
    async write({ bytes, offset, size, more }: LogBytes): Promise<void> {
      if (json) {
        return output.jsonLine({ run_id: run.run_id, offset, size, chunk: decoder.decode(bytes), more });
      }
      await output.write(isUnchanged ? bytes : filter.push(bytes));
    },
    /** Prints what is left after the last page. */
    async end(): Promise<void> {
      if (!json && !isUnchanged) await output.write(filter.end());
    },
  };
}
