import { readFileSync } from "node:fs";

/** The text of docs/clients.md. */
export const CLIENTS_PAGE = readFileSync(new URL("../../docs/clients.md", import.meta.url), "utf8");

/** The code block of docs/clients.md with this name after its language. Throws when there is none. */
export function clientsBlock(name: string): string {
  const found = new RegExp(`^\`\`\`\\w+ ${name.replaceAll(".", "\\.")}\\n([^]*?)^\`\`\`$`, "m").exec(
    CLIENTS_PAGE,
  )?.[1];
  if (found === undefined) throw new Error(`docs/clients.md has no block ${name}`);
  return found;
}
