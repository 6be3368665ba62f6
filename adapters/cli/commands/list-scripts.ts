import { withRetries } from "../../client/retry.ts";
import { byteCount } from "../../client/units.ts";
import { renderTable } from "../../client/table.ts";
import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";
import { localTime } from "../format.ts";
import { printable } from "../printable.ts";

/** Lists the scripts under a folder, or under all the roots. Returns the exit code. */
export async function showScripts(
  { api: openApi, output, json, retries }: Context,
  path: string | undefined,
): Promise<number> {
  const api = await openApi();
  const list = await withRetries(() => api.listScripts(path), retries("read"));
  if (json) await output.json(list);
  else if (list.scripts.length === 0)
    output.note(path === undefined ? "This Hub has no scripts." : "This folder has no scripts.");
  else {
    const rows = list.scripts.map((script) => [
      printable(script.path),
      printable(byteCount(script.size)),
      localTime(script.modified_at),
    ]);
    await output.write(await renderTable(["PATH", "SIZE", "MODIFIED"], rows, output.width));
    if (list.truncated) output.warn("the server has more scripts than it lists. Name a folder");
  }
  return EXIT.ok;
}
