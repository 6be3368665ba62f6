import * as z from "zod";

import type { Source } from "../../host-agent/protocol/run.ts";
import { hold } from "../holding.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";
import { LogPage, ReadLogQuery, RunParams } from "../schemas.ts";
import { SURFACES } from "../surface.ts";

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
          schema: z.int(),
        },
        { name: "Hub-Log-Size", description: "With text/plain: the log's size in bytes.", schema: z.int() },
        {
          name: "Hub-Log-More",
          description: "With text/plain: whether there are bytes past the offset.",
          schema: z.enum(["true", "false"]),
        },
      ],
      alternatives: { "text/plain": z.string() },
    },
    problems: ["run_not_found", "log_gone", "offset_beyond_end"],

    async handle({ params, query, headers, signal }, { agent, stopping }) {
      const page = await hold(query.wait, { signal, stopping }, (wait) =>
        agent.readLog(source, params.run_id, { after: query.after, maxBytes: query.max_bytes, ...wait }),
      );
      const { bytes, offset, size, more } = page;
      if (prefersPlainText(headers.get("accept"))) {
        return {
          status: 200,
          headers: {
            "content-type": "text/plain; charset=utf-8",
            "hub-log-offset": String(offset),
            "hub-log-size": String(size),
            "hub-log-more": String(more),
          },
          bytes,
        };
      }
      return ok({ run_id: params.run_id, offset, size, chunk: decode(bytes), more });
    },
  });

/** Keeps a byte order mark: the text has all bytes of the log. */
function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
}

/** True when the client names text/plain and not JSON before it. */
function prefersPlainText(accept: string | null): boolean {
  const types = (accept ?? "").split(",").map((part) => part.split(";", 1)[0]!.trim().toLowerCase());
  const plain = types.indexOf("text/plain");
  const json = types.indexOf("application/json");
  return plain >= 0 && (json < 0 || plain < json);
}
