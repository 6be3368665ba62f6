import { expect, test } from "vitest";

import { Problem } from "../../../handlers/problem.ts";

/** Its types are those of Workers, which the tests do not have. */
const WORKER = "../../../adapters/workers/worker.ts";

test("a Worker without its secret answers with a whole problem, whose request_id is in its log", async () => {
  const { default: worker } = (await import(WORKER)) as {
    default: { fetch(request: Request, env: object): Promise<Response> };
  };
  const answer = await worker.fetch(new Request("http://hub.test/api/v1/scripts"), {});

  const problem = Problem.parse(await answer.json());
  expect(problem).toMatchObject({ status: 500, code: "internal", instance: "/api/v1/scripts" });
  expect(answer.headers.get("x-request-id")).toBe(problem.request_id);
});
