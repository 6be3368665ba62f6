import type { RunRecord } from "../../host-agent/protocol/run.ts";
import type { LogBytes } from "../client/log-bytes.ts";
import type { Context } from "./context.ts";
import { terminalFilter } from "./printable.ts";

/**
 * Shows pages of a log: the bytes as they are, into anything but a terminal or
 * with `raw`; made harmless on a terminal; one JSON object a page with --json.
 */
export function openLogOutput({ output, json }: Context, run: RunRecord, raw: boolean) {
  const filter = terminalFilter();
  const asItIs = raw || !output.stdout.isTTY;
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  return {
    async write({ bytes, offset, size, more }: LogBytes): Promise<void> {
      if (json) {
        return output.jsonLine({ run_id: run.run_id, offset, size, chunk: decoder.decode(bytes), more });
      }
      await output.write(asItIs ? bytes : filter.push(bytes));
    },
    /** Shows what was held back. */
    async end(): Promise<void> {
      if (!json && !asItIs) await output.write(filter.end());
    },
  };
}
