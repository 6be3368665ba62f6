import * as z from "zod";

import { INT64 } from "../../host-agent/protocol/integers.ts";
import type { LogPage as AgentPage } from "../../host-agent/protocol/agent.ts";
import type { Source } from "../../host-agent/protocol/run.ts";
import type { Deps } from "../deps.ts";
import { hold } from "../holding.ts";
import { qualityOf } from "../media-type.ts";
import { ok, type Reply } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { LogPage, ReadLogQuery, RunParams } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

/** The answer depends on this header of the request (RFC 9110, 12.5.5). */
const VARY = { vary: "accept" };

export const readLog = (source: Source) =>
  defineRoute({
    method: "get",
    path: `${SURFACES[source].base}/:run_id/logs`,
    operationId: `read${SURFACES[source].name}Log`,
    tag: SURFACES[source].tag,
    summary: "Read a page of the log",
    description:
      "The log by byte offset: start with `after=0` and pass the `offset` of each answer as the next `after`. Add `wait=30` to get the answer as soon as there are new bytes. The log of a run that was never started is empty; its `status_reason` says why.",
    scope: SURFACES[source].read,
    request: { params: RunParams, query: ReadLogQuery },
    response: {
      status: 200,
      description: "A page of the log: JSON, or the raw bytes for `Accept: text/plain`",
      body: LogPage,
      headers: [
        {
          name: "Hub-Log-Offset",
          description: "With text/plain: the next byte to ask for.",
          schema: { type: "integer", ...INT64, minimum: 0 },
        },
        {
          name: "Hub-Log-Size",
          description: "With text/plain: the log's size in bytes.",
          schema: { type: "integer", ...INT64, minimum: 0 },
        },
        {
          name: "Hub-Log-More",
          description: "With text/plain: whether there are bytes past the offset.",
          schema: { type: "boolean" },
        },
      ],
      alternatives: { "text/plain": z.string() },
    },
    problems: ["run_not_found", "log_gone", "offset_beyond_end"],

    async handle({ params, query, headers, signal, principal }, { agent, stopping, jsonString }) {
      const page = await hold(query.wait, { signal, stopping }, (wait) =>
        agent.readLog(source, params.run_id, {
          after: query.after,
          maxBytes: query.max_bytes,
          keyName: principal.name,
          ...wait,
        }),
      );
      return prefersPlainText(headers.get("accept"))
        ? textReply(page)
        : jsonReply(params.run_id, page, jsonString);
    },
  });

function textReply({ bytes, offset, size, more }: AgentPage): Reply {
  return {
    status: 200,
    headers: {
      "content-type": "text/plain; charset=utf-8",
      ...VARY,
      "hub-log-offset": String(offset),
      "hub-log-size": String(size),
      "hub-log-more": String(more),
    },
    bytes,
  };
}

function jsonReply(
  run_id: string,
  { bytes, offset, size, more }: AgentPage,
  jsonString: Deps["jsonString"],
): Reply {
  const chunk = jsonString?.(bytes);
  if (chunk === undefined) {
    return { ...ok({ run_id, offset, size, chunk: decode(bytes), more }), headers: VARY };
  }
  return { status: 200, bytes: jsonAround({ run_id, offset, size, chunk: "", more }, chunk), headers: VARY };
}

/** The answer in bytes, with `chunk` in the place of its empty string. */
function jsonAround(page: z.input<typeof LogPage>, chunk: Uint8Array): Uint8Array {
  const [before, after] = `${JSON.stringify(page)}\n`.split('""') as [string, string];
  const encoder = new TextEncoder();
  const parts = [encoder.encode(before), chunk, encoder.encode(after)];
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Keeps a byte order mark: the text has all bytes of the log. */
function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
}

/** True when the client wants text/plain more than JSON. */
function prefersPlainText(accept: string | null): boolean {
  return accept !== null && qualityOf(accept, "text/plain") > qualityOf(accept, "application/json");
}
