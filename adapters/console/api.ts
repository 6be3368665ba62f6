import { type HubClient, hubClient } from "../client/hub-client.ts";
import type { HubError } from "../client/hub-error.ts";
import { createStore } from "./store.ts";

export type Api = HubClient;

/** How the last request went, for the bar that says what to do. */
export type Connection = { is: "fine" } | { is: "hub-away" } | { is: "host-away"; detail: string };
export const connection = createStore<Connection>({ is: "fine" });

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
    url: "",
    key,
    init: OF_A_PAGE,
    onAnswer: () => connection.set(FINE),
    onFailure(error) {
      connection.set(connectionAfter(error));
      if (error.status === 401) onRefused(error.message);
      return error;
    },
  });
}

/** Whether the Hub needs a key, asked without one. Throws HubError. */
export async function needsKey(): Promise<boolean> {
  const { mode } = await hubClient({ url: "", init: OF_A_PAGE }).health();
  return mode !== "dev";
}

function connectionAfter({ kind, status, message }: HubError): Connection {
  if (kind === "no-answer") return { is: "hub-away" };
  return status >= 502 ? { is: "host-away", detail: message } : FINE;
}
