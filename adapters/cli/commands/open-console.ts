import type { Context } from "../context.ts";
import { EXIT } from "../exit.ts";

/** Prints the console's address and opens it if this machine has a desktop. The address never contains the key. Returns the exit code. */
export async function openConsole({ api: openApi, output, json, env }: Context): Promise<number> {
  const { host } = await openApi();
  const url = `${host.url}/console`;
  if (json) await output.json({ url });
  else await output.write(`${url}\n`);
  const hasDesktop = process.platform !== "linux" || Boolean(env["DISPLAY"] || env["WAYLAND_DISPLAY"]);
  if (json || !output.stdout.isTTY || !hasDesktop) return EXIT.ok;
  const { default: open } = await import("open");
  await open(url).catch((error: Error) => output.warn(`cannot open a browser: ${error.message}`));
  return EXIT.ok;
}
