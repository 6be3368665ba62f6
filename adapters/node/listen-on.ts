import type { Server } from "node:http";
import { dirname } from "node:path";

import { freeSocketPath } from "../../host-agent/door/unix-socket.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { makeFolder } from "../../host-agent/system/make-folder.ts";
import type { NodeConfig } from "./config.ts";
import { addressOf, listen, listenAlso } from "./http-server.ts";

const UNIX = "unix:";
/** A proxy in front is another user: it connects by the group of the socket, which is the folder's where that is setgid. */
const SOCKET_MODE = 0o660;
/** A machine without IPv6. */
const WITHOUT_IPV6 = new Set(["EADDRNOTAVAIL", "EAFNOSUPPORT"]);

type Where = Pick<NodeConfig, "host" | "port" | "alsoOnIpv6" | "sockets">;

/** Lets the server listen where the settings say; its address, `http://host:port` or `unix:/path`. Throws ConfigError. */
export async function listenOn(server: Server, where: Where): Promise<string> {
  if (where.sockets.length > 0) return onPassedSockets(server, where.sockets);
  return where.host.startsWith(UNIX) ? onPath(server, where.host.slice(UNIX.length)) : onPort(server, where);
}

async function onPassedSockets(server: Server, [first, ...others]: readonly number[]): Promise<string> {
  try {
    await listen(server, { fd: first! });
    for (const fd of others) await listenAlso(server, { fd });
    return addressOf(server);
  } catch (error) {
    throw new ConfigError(
      `LISTEN_FDS: cannot serve on the sockets of systemd: ${(error as Error).message}. They must be ListenStream= of the .socket unit`,
    );
  }
}

async function onPath(server: Server, path: string): Promise<string> {
  await freeSocketPath(path, "HUB_HOST");
  try {
    makeFolder(dirname(path));
    await listen(server, { path, mode: SOCKET_MODE });
    return addressOf(server);
  } catch (error) {
    throw new ConfigError(`HUB_HOST: cannot listen on ${UNIX}${path}: ${(error as Error).message}`);
  }
}

async function onPort(server: Server, { host, port, alsoOnIpv6 }: Where): Promise<string> {
  let actualPort: number;
  try {
    actualPort = await listen(server, { host, port });
  } catch (error) {
    throw cannotListen({ host, port }, error as NodeJS.ErrnoException);
  }
  if (alsoOnIpv6) await onIpv6Loopback(server, actualPort, port === 0);
  return `http://${host.includes(":") ? `[${host}]` : host}:${actualPort}`;
}

/** Anyone who listens on ::1 receives what clients send to `localhost`, their keys included. */
async function onIpv6Loopback(server: Server, port: number, isAnyPort: boolean): Promise<void> {
  const host = "::1";
  try {
    await listenAlso(server, { host, port });
  } catch (error) {
    const fault = error as NodeJS.ErrnoException;
    if (WITHOUT_IPV6.has(fault.code ?? "") || isAnyPort) return;
    throw cannotListen({ host, port }, fault);
  }
}

/** Why the server cannot listen on HUB_HOST and HUB_PORT, and what to do. */
export function cannotListen(
  { host, port }: Pick<NodeConfig, "host" | "port">,
  { code, message }: NodeJS.ErrnoException,
): ConfigError {
  const reasons: Record<string, string> = {
    EADDRINUSE: "it is in use, perhaps by another Hub. Set HUB_PORT to another port",
    EACCES: "ports below 1024 need root. Set HUB_PORT to another port",
  };
  const reason = reasons[code ?? ""] ?? message;
  return new ConfigError(`HUB_HOST, HUB_PORT: cannot listen on ${host} port ${port}: ${reason}`);
}
