import type { ScriptContent } from "../../../host-agent/protocol/script.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { printableLines } from "../printable.ts";
import { withRetries } from "../retry.ts";

/** Shows a script's source. Returns the exit code. */
export async function catScript(
  { api: openApi, output, json, retries }: Context,
  path: string,
): Promise<number> {
  const api = await openApi();
  const script = await withRetries(
    () => api.json<ScriptContent>("GET", "/api/v1/scripts/content", ["content"], { query: { path } }),
    retries("read"),
  );
  if (json) await output.json(script);
  else await output.write(output.stdout.isTTY ? printableLines(script.content) : script.content);
  return EXIT.ok;
}
