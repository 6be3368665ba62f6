import http from "node:http";

import type { Env } from "./hosts.ts";

/** A proxy on another machine cannot reach this one's loopback, and would learn the key. */
const NEVER_PROXIED = "localhost,127.0.0.1,[::1],::1";

/**
 * Sends the requests of this process through the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`, in either
 * case. Returns the variable that names it and the proxy's host, for messages; undefined when there is none.
 */
export function useProxy(env: Env, url: string): string | undefined {
  const name = url.startsWith("https:") ? "https_proxy" : "http_proxy";
  const proxy = env[name] || env[name.toUpperCase()];
  if (!proxy) return undefined;
  const excepted = env["no_proxy"] ?? env["NO_PROXY"];
  http.setGlobalProxyFromEnv({
    [name]: proxy,
    no_proxy: excepted ? `${excepted},${NEVER_PROXIED}` : NEVER_PROXIED,
  });
  return `${name.toUpperCase()} is ${URL.parse(proxy)?.host ?? "not a URL"}`;
}
