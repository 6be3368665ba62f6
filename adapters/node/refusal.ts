import { type IncomingMessage, type ServerResponse, STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";

import { problemReply } from "../../handlers/problem.ts";
import { toResponse } from "../../handlers/reply.ts";
import { ApiProblem, type ProblemCode } from "../../host-agent/protocol/problem.ts";

/** How long a refused client may continue to send. Closing the connection at once would lose the answer. */
const LINGER_MS = 500;

/** The answer when no Request can be made. The handlers answer all other requests. */
export function refusal(code: ProblemCode, detail: string, headers: Record<string, string> = {}): Response {
  const problem = new ApiProblem(code, detail, { headers: { ...headers, connection: "close" } });
  const requestId = crypto.randomUUID();
  return toResponse(problemReply(problem, { path: "/", requestId }), { requestId, method: "GET" });
}

/** Sends a refusal as the answer of a request that node:http could parse. */
export async function sendRefusal(outgoing: ServerResponse, response: Response): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer());
  const headers = { ...Object.fromEntries(response.headers), "content-length": body.length };
  outgoing.writeHead(response.status, headers).end(body);
}

/** Writes a refusal to a connection that node:http has abandoned, and closes it. */
export async function writeRefusal(socket: Duplex, response: Response): Promise<void> {
  const body = await response.text();
  if (!socket.writable) return void socket.destroy();
  const head = [
    `HTTP/1.1 ${response.status} ${STATUS_CODES[response.status]}`,
    ...[...response.headers].map(([name, value]) => `${name}: ${value}`),
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  socket.once("error", () => socket.destroy());
  socket.once("end", () => socket.destroy());
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}

/** The refusal for a fault that the HTTP parser found. */
export function refusalOf(fault: NodeJS.ErrnoException): Response {
  switch (fault.code) {
    case "HPE_HEADER_OVERFLOW":
      return refusal("headers_too_large", "header: all headers together must be at most 16 KB");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return refusal("request_timeout", "header: the request did not arrive in time");
    default:
      return refusal("malformed_request", "The request is not valid HTTP/1.1 (RFC 9112)");
  }
}

/**
 * The name of a duplicate header that must be single: RFC 9112, section 3.2, refuses
 * two Hosts, two Idempotency-Keys would be joined to another key, and of two API keys a proxy
 * in front may have checked the other one.
 */
export function repeatedHeader({ rawHeaders }: IncomingMessage): string | undefined {
  return SINGLE_HEADERS.find((name) => {
    let times = 0;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      const given = rawHeaders[i]!;
      if (given.length === name.length && given.toLowerCase() === name) times++;
    }
    return times > 1;
  });
}

const SINGLE_HEADERS = ["host", "idempotency-key", "authorization"];
