import { expect, test } from "vitest";

import { toResponse } from "../../handlers/reply.ts";

test("a JSON answer ends with a newline, and HEAD names the length of all of it", async () => {
  const reply = { status: 200, json: { name: "é" } };

  const got = await toResponse(reply, { requestId: "r", method: "GET" }).bytes();
  const head = toResponse(reply, { requestId: "r", method: "HEAD" });

  expect(new TextDecoder().decode(got)).toBe('{"name":"é"}\n');
  expect(head.headers.get("content-length")).toBe(String(got.length));
});
