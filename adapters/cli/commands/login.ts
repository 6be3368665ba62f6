import { text } from "node:stream/consumers";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";

import { withRetries } from "../../client/retry.ts";
import { isProblem } from "../../client/hub-error.ts";
import { renderTable } from "../../client/table.ts";
import { hubApi } from "../api.ts";
import type { Context } from "../context.ts";
import { CliError, EXIT, usageError } from "../exit.ts";
import { checkKey, checkUrl, isLoopback, ownHost, readHosts, writeHosts } from "../hosts.ts";
import { printable } from "../printable.ts";

/**
 * Stores a Hub's address and key, readable by the user only, after the Hub has accepted
 * the key, and makes it the default. The key comes from HUB_KEY, a prompt or
 * stdin, never from the command line, which other users can see. Returns the exit code.
 */
export async function login(context: Context, url: string | undefined): Promise<number> {
  const { env, output, hostsPath, hostName } = context;
  const origin = url === undefined ? "HUB_URL" : "URL";
  const address = url ?? env["HUB_URL"];
  if (!address) throw usageError("no address: call `hub login https://hub.example.com`");
  const host = { url: checkUrl(address, origin), key: env["HUB_KEY"] || (await readKey(context)) };
  checkKey(host.key);
  await probe(context, host);

  const name = hostName ?? new URL(host.url).host;
  const file = await readHosts(hostsPath);
  const hosts = { ...file.hosts, [name]: host };
  await writeHosts(hostsPath, { default: name, hosts });
  if (context.json) await output.json({ host: name, url: host.url });
  else
    await output.write(`Stored ${printable(name)} (${host.url}) in ${hostsPath}; it is now the default.\n`);
  if (host.url.startsWith("http://") && !isLoopback(new URL(host.url).hostname)) {
    output.warn("this address is not encrypted: others on the network can read the key. Use https://");
  }
  return EXIT.ok;
}

/** Removes a stored host. Returns the exit code. */
export async function logout({ hostName, hostsPath, output, json }: Context): Promise<number> {
  const file = await readHosts(hostsPath);
  const name = hostName ?? file.default;
  if (name === undefined || !ownHost(file, name))
    throw usageError(name === undefined ? "no host is stored" : `there is no host named ${name}`);
  const hosts = Object.fromEntries(Object.entries(file.hosts).filter(([other]) => other !== name));
  await writeHosts(hostsPath, {
    default: file.default === name ? Object.keys(hosts)[0] : file.default,
    hosts,
  });
  if (json) await output.json({ forgotten: name });
  else await output.write(`Removed ${printable(name)}.\n`);
  return EXIT.ok;
}

/** Lists the stored hosts, without their keys. Returns the exit code. */
export async function showHosts({ hostsPath, output, json }: Context): Promise<number> {
  const file = await readHosts(hostsPath);
  const hosts = Object.entries(file.hosts).map(([name, { url }]) => ({
    name,
    url,
    default: name === file.default,
  }));
  if (json) await output.json({ hosts });
  else if (hosts.length === 0) output.note("No Hub is stored. Store one with `hub login`");
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

/** Checks the key. One without the scope for this list is valid too. */
async function probe(context: Context, host: { url: string; key: string }): Promise<void> {
  const api = hubApi(host, context.env);
  await withRetries(() => api.listRecipes(), context.retries("read")).catch((error: unknown) => {
    if (isProblem(error, "insufficient_scope")) return;
    throw error;
  });
}

async function readKey({ output }: Context): Promise<string> {
  if (!process.stdin.isTTY) {
    const key = (await text(process.stdin)).trim();
    if (key === "")
      throw usageError("no API key: set HUB_KEY, write the key to stdin, or call `hub login` on a terminal");
    return key;
  }
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  // The terminal's echo is off before the prompt appears, so that a pasted key is not shown.
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
