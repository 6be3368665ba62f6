import { type HubClient, hubClient } from "../client/hub-client.ts";
import { HubError } from "../client/hub-error.ts";
import type { Source } from "../../host-agent/protocol/run.ts";
import { BASE } from "./base.ts";
import { createStore, useStore } from "./store.ts";

export type Api = HubClient;

/** How the last request went, for the bar that says what to do. */
export type Connection =
  | { is: "fine" }
  | { is: "hub-away" }
  /** `title` says what is out of order, `detail` is the API's sentence. */
  | { is: "host-away"; title: string; detail: string };
export const connection = createStore<Connection>({ is: "fine" });

/** What the key of this tab may do; undefined before the first answer, and on a Hub without keys. */
const scopes = createStore<readonly string[] | undefined>(undefined);

/** Whether the key may launch and kill on a surface; true while that is unknown. */
export function useMayWrite(source: Source): boolean {
  const known = useStore(scopes);
  return known === undefined || known.includes("*") || known.includes(`${source}s:write`);
}

const FINE: Connection = { is: "fine" };
const OF_A_PAGE: RequestInit = {
  cache: "no-store",
  credentials: "omit",
  redirect: "error",
  referrerPolicy: "no-referrer",
};

/**
 * The public API of the Hub that serves this page. `key` may be undefined on a Hub
 * that needs none; `onRefused` receives the Hub's sentence when it does not accept the key.
 */
export function createApi(key: string | undefined, onRefused: (detail: string) => void): Api {
  return hubClient({
    url: BASE,
    key,
    init: OF_A_PAGE,
    onAnswer({ headers, url }) {
      // The Hub reports its health also while it cannot reach the host.
      if (!url.endsWith("/healthz")) connection.set(FINE);
      keepScopes(headers);
    },
    onFailure(error) {
      if (error.facts.headers) keepScopes(error.facts.headers);
      connection.set(connectionAfter(error));
      if (error.status === 401) onRefused(error.message);
      return error;
    },
  });
}

/** Whether the Hub needs a key, asked without one. Throws HubError. */
export async function needsKey(): Promise<boolean> {
  const { mode } = await hubClient({ url: BASE, init: OF_A_PAGE }).health();
  return mode !== "dev";
}

/** True for a failure that the connection bar reports for the whole page, which asks again by itself. */
export function isOutage(error: Error): boolean {
  return error instanceof HubError && connectionAfter(error).is !== "fine";
}

const TITLES: Partial<Record<string, string>> = {
  keys_unavailable: "The Hub refuses every request.",
  host_unavailable: "The host cannot do this now.",
};

function connectionAfter({ kind, status, code, message }: HubError): Connection {
  if (kind === "no-answer") return { is: "hub-away" };
  if (status < 502) return FINE;
  const title = kind === "not-a-hub" ? "The Hub does not answer its proxy." : TITLES[code ?? ""];
  return { is: "host-away", title: title ?? "The host cannot be reached.", detail: message };
}

function keepScopes(headers: Headers): void {
  const given = headers.get("hub-scopes")?.split(" ");
  if (given && given.join() !== scopes.get()?.join()) scopes.set(given);
}
