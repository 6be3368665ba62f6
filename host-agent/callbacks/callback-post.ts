import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";

import { type AllowedUrl, isPublicAddress } from "./callback-rules.ts";

const ATTEMPT_TIMEOUT_MS = 10_000;

/** The addresses of a host name. */
export type Resolve = (hostname: string) => Promise<Address[]>;

interface Address {
  address: string;
  family: number;
}

/** What is sent. */
export interface CallbackPost {
  body: string;
  headers: Record<string, string | number>;
}

/** The result of one attempt: the status of the answer, or why there is none. */
export type PostResult = { status: number } | { fault: string };

interface PostOptions {
  resolve: Resolve;
  /** The certificates to trust, in place of Node's. */
  ca: string | undefined;
  /** Aborts when the agent stops. */
  stopping: AbortSignal;
}

/**
 * Posts once to a listed URL, within 10 seconds. The name is resolved once: the
 * addresses that were checked are those that are connected to. Never rejects.
 */
export async function postCallback(
  allowed: AllowedUrl,
  post: CallbackPost,
  { resolve, ca, stopping }: PostOptions,
): Promise<PostResult> {
  const signal = AbortSignal.any([stopping, AbortSignal.timeout(ATTEMPT_TIMEOUT_MS)]);
  try {
    const addresses = await Promise.race([checkedAddresses(allowed, resolve), aborted(signal)]);
    return { status: await send(allowed.url, post, { addresses, signal, ca }) };
  } catch (error) {
    if (signal.aborted) return { fault: "no answer in time" };
    return { fault: (error as NodeJS.ErrnoException).code ?? (error as Error).message };
  }
}

/**
 * The addresses to connect to. One address that is not public is enough to refuse all:
 * the owner of the name chooses the others.
 */
async function checkedAddresses({ url, host }: AllowedUrl, resolve: Resolve): Promise<Address[]> {
  const literal = url.hostname.replaceAll(/^\[|\]$/g, "");
  const family = isIP(literal);
  const found = family === 0 ? await resolve(url.hostname) : [{ address: literal, family }];
  const isRefused = !host.mayBePrivate && !found.every(({ address }) => isPublicAddress(address));
  if (isRefused || found.length === 0) throw new Error("the name resolves to an address that is not public");
  return found;
}

/**
 * Sends one request to exactly these addresses, whatever the name resolves to by then.
 * Resolves with the status of the answer; its body is not read, and no
 * redirect is followed.
 */
function send(
  url: URL,
  { body, headers }: CallbackPost,
  { addresses, signal, ca }: { addresses: Address[]; signal: AbortSignal; ca: string | undefined },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const lookupKnown: LookupFunction = (_hostname, { all }, callback) => {
    const [first] = addresses as [Address];
    process.nextTick(() =>
      all === true ? callback(null, addresses) : callback(null, first.address, first.family),
    );
  };
  const request = url.protocol === "https:" ? httpsRequest : httpRequest;
  const outgoing = request(url, {
    headers,
    signal,
    ca,
    method: "POST",
    // A separate connection: an existing one may have been made to other addresses.
    agent: false,
    lookup: lookupKnown,
  });
  outgoing.on("response", (incoming) => {
    resolve(incoming.statusCode!);
    incoming.on("error", () => {}).destroy();
  });
  outgoing.on("error", reject);
  outgoing.end(body);
  return promise;
}

function aborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
  return promise;
}
