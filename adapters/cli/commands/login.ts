import { text } from "node:stream/consumers";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

import { withRetries } from "../../client/retry.ts";
import { isProblem } from "../../client/hub-error.ts";
import { renderTable } from "../../client/table.ts";
import { hubApi } from "../api.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, usageError } from "../exit.ts";
import { checkKey, checkUrl, ownHost, readHosts, writeHosts } from "../hosts.ts";
import { printable } from "../printable.ts";

/**
 * Stores a Hub's address and key for its owner only, after the Hub has taken
 * the key, and makes it the default. The key comes from HUB_KEY, a prompt or
 * stdin, never from the command line, which others can see.
 */
export async function login(context: Context, url: string | undefined): Promise<number> {
  const { env, output, hostsPath, hostName } = context;
  const origin = url === undefined ? "HUB_URL" : "URL";
  const address = url ?? env["HUB_URL"];
  if (!address) throw usageError("say which Hub: `hub login https://hub.example.com`");
  const host = { url: checkUrl(address, origin), key: env["HUB_KEY"] || (await readKey(context)) };
  checkKey(host.key);
  await probe(context, host);

  const name = hostName ?? new URL(host.url).host;
  const file = await readHosts(hostsPath);
  const hosts = { ...file.hosts, [name]: host };
  await writeHosts(hostsPath, { default: name, hosts });
  if (context.json) await output.json({ host: name, url: host.url });
  else
    await output.write(`Stored ${printable(name)} (${host.url}) in ${hostsPath}; it is the default now.\n`);
  if (host.url.startsWith("http://") && !/^(?:localhost|127\.|\[::1\])/.test(new URL(host.url).hostname)) {
    output.warn("this address is not encrypted: others on the way can read the key");
  }
  return EXIT.ok;
}

/** Forgets a stored host. */
export async function logout({ hostName, hostsPath, output, json }: Context): Promise<number> {
  const file = await readHosts(hostsPath);
  const name = hostName ?? file.default;
  if (name === undefined || !ownHost(file, name))
    throw usageError(`there is no host named ${name ?? "anything"} to forget`);
  const hosts = Object.fromEntries(Object.entries(file.hosts).filter(([other]) => other !== name));
  await writeHosts(hostsPath, {
    default: file.default === name ? Object.keys(hosts)[0] : file.default,
    hosts,
  });
  if (json) await output.json({ forgotten: name });
  else await output.write(`Forgot ${printable(name)}.\n`);
  return EXIT.ok;
}

/** Lists the stored hosts, without their keys. */
export async function showHosts({ hostsPath, output, json }: Context): Promise<number> {
  const file = await readHosts(hostsPath);
  const hosts = Object.entries(file.hosts).map(([name, { url }]) => ({
    name,
    url,
    default: name === file.default,
  }));
  if (json) await output.json({ hosts });
  else {
    const rows = hosts.map((host) => [
      printable(host.name),
      printable(host.url),
      host.default ? "default" : "",
    ]);
    await output.write(await renderTable(["HOST", "URL", ""], rows, output.width));
  }
  return EXIT.ok;
}

/** A key without the scope for this list is a key all the same. */
async function probe(context: Context, host: { url: string; key: string }): Promise<void> {
  const api = hubApi(host);
  await withRetries(() => api.listRecipes(), context.retries("read")).catch((error: unknown) => {
    if (isProblem(error, "insufficient_scope")) return;
    throw error;
  });
}

async function readKey({ output }: Context): Promise<string> {
  if (!process.stdin.isTTY) {
    const key = (await text(process.stdin)).trim();
    if (key === "")
      throw usageError("no API key: set HUB_KEY, pipe it in, or call `hub login` on a terminal");
    return key;
  }
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  // Only now, with the terminal's echo off: a key pasted at once must not show.
  output.stderr.write("API key: ");
  const interrupted = Promise.withResolvers<never>();
  const stop = () => interrupted.reject(new CliError("nothing was stored", EXIT.interrupted));
  lines.once("SIGINT", stop);
  lines.once("close", stop);
  try {
    return (await Promise.race([lines.question(""), interrupted.promise])).trim();
  } finally {
    lines.close();
    output.stderr.write("\n");
  }
}
