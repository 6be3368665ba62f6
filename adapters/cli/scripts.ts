import { isProblem } from "../client/hub-error.ts";
import type { Api } from "./api.ts";
import { CliError, usageError } from "./exit.ts";
import { printable } from "./printable.ts";

/**
 * The path of the one listed script that `text` names: a path, or the end of one (`nightly.sh`, `jobs/nightly.sh`). Throws a
 * usage error when several scripts end so.
 */
export async function findScript(api: Api, text: string): Promise<string> {
  if (text.startsWith("/")) return text;
  const { scripts, truncated } = await api.listScripts().catch((error: unknown) => {
    if (!isProblem(error, "insufficient_scope")) throw error;
    throw usageError(`this key may not list the scripts: name ${JSON.stringify(text)} by its whole path`);
  });
  const found = scripts
    .map(({ path }) => path)
    .filter((path) => path.endsWith(`/${text.replace(/^\.\//, "")}`));
  if (found.length === 1) return found[0]!;
  if (found.length > 1) {
    const some = found.slice(0, 5).map(printable).join(", ");
    throw usageError(`${text} is ambiguous: ${some}${found.length > 5 ? ", …" : ""}. Type more of the path`);
  }
  const all = truncated ? "the first 1000 scripts" : "the scripts";
  throw new CliError(
    `${all} of this Hub include none whose path ends with /${text}. List them with \`hub scripts\``,
  );
}
