import { withRetries } from "../../client/retry.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { printableLines } from "../printable.ts";
import { findScript } from "../scripts.ts";

/** Shows a script's source. Returns the exit code. */
export async function catScript(
  { api: openApi, output, json, retries }: Context,
  name: string,
): Promise<number> {
  const api = await openApi();
  const path = await withRetries(() => findScript(api, name), retries("read"));
  const script = await withRetries(() => api.readScript(path), retries("read"));
  if (json) await output.json(script);
  else await output.write(output.stdout.isTTY ? printableLines(script.content) : script.content);
  return EXIT.ok;
}
