import { type Health, hubClient } from "./hub-client.ts";

const HEALTH_TIMEOUT_SECONDS = 2;

/** How the Hub at this origin authenticates its clients; undefined when no Hub answers there. */
export async function modeOfHub(origin: string): Promise<Health["mode"] | undefined> {
  const hub = hubClient({ url: origin, headers: { connection: "close" } });
  return hub.health({ timeoutSeconds: HEALTH_TIMEOUT_SECONDS }).then(
    ({ mode }) => mode,
    () => undefined,
  );
}

/**
 * The address at which this machine reaches a server that listens on `host`: one on all addresses also answers on
 * loopback. Undefined for a Unix socket, which fetch cannot reach.
 */
export function originOf({ host, port }: { host: string; port: number }): string | undefined {
  if (host.startsWith("unix:")) return undefined;
  const reached = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `http://${reached.includes(":") ? `[${reached}]` : reached}:${port}`;
}
