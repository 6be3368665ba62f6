import { createStore, useStore } from "./store.ts";

/** The place in the console that the page shows: the address after the `#`. */
export interface Place {
  /** `["runs", "run_a1b2c3d4e5f6"]` */
  path: string[];
  query: URLSearchParams;
}

const place = createStore(readPlace());
addEventListener("hashchange", () => place.set(readPlace()));

/** The present place; the component is drawn again when it changes. */
export function usePlace(): Place {
  return useStore(place);
}

/** A link's address inside the console. */
export function href(path: string[], query: Record<string, string> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}

/** Shows another place; with `replace` without an entry in the browser's history. */
export function go(address: string, { replace = false } = {}): void {
  if (!replace) {
    location.hash = address;
    return;
  }
  history.replaceState(null, "", address);
  place.set(readPlace());
}

function readPlace(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
