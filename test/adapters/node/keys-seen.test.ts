import { rename, writeFile } from "node:fs/promises";

import { expect, test } from "vitest";

import { startHub, until } from "../../support/hub.ts";

test("a Hub that has had API keys does not start without a keys file, until a file with an empty list allows it", async () => {
  await using hub = await startHub();
  const away = `${hub.keysFile}.away`;
  const missing = hub.restart(() => rename(hub.keysFile, away));
  await expect(missing).rejects.toThrow(
    /^HUB_KEYS_FILE: .* does not exist, and this Hub had API keys before.*\{"keys": \[\]\}/s,
  );

  await hub.start(() => writeFile(hub.keysFile, '{"keys": []}'));
  expect((await hub.get("/api/v1/pipelines/runs", { key: null })).headers.get("hub-auth")).toBe("dev");
  await hub.restart(() => rename(hub.keysFile, `${away}.2`));
  expect((await hub.get("/api/v1/pipelines/runs", { key: null })).status).toBe(200);

  // Keys that are added while the server runs count, too.
  await rename(away, hub.keysFile);
  await until(
    async () => (await hub.get("/api/v1/pipelines/runs", { key: null })).status === 401 || undefined,
  );
  await expect(hub.restart(() => rename(hub.keysFile, away))).rejects.toThrow(/had API keys before/);
  await hub.start(() => rename(away, hub.keysFile));
});
