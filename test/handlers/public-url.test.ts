import { expect, test } from "vitest";

import { readNodeConfig } from "../../adapters/node/config.ts";
import { startHub } from "../support/hub.ts";

test("behind a path prefix the Location of a launch and the server of the document are the address that clients use", async () => {
  await using hub = await startHub({ env: { HUB_PUBLIC_URL: "https://example.com/hub/" } });

  const launched = await hub.post("/api/v1/pipelines/runs", { recipe_id: "hello" });
  const document = await hub.get("/openapi.json");
  const root = await fetch(`${hub.url}/`, { redirect: "manual" });

  const { run_id } = launched.json;
  expect(launched.headers.get("location")).toBe(`https://example.com/hub/api/v1/pipelines/runs/${run_id}`);
  expect(document.json.servers[0].url).toBe("https://example.com/hub");
  expect(root.headers.get("location")).toBe("https://example.com/hub/console");
  await hub.ended(launched.json);
});

test.for(["example.com/hub", "ftp://example.com", "https://u:p@example.com", "https://example.com/?a", ""])(
  "HUB_PUBLIC_URL %j is refused at the start",
  (HUB_PUBLIC_URL) => {
    expect(() => readNodeConfig({ HUB_PUBLIC_URL })).toThrow("HUB_PUBLIC_URL");
  },
);
