import { describe, expect, test } from "vitest";

import { ALL, type Deploy, startHub } from "../hub.ts";

/** Launching, as every deployment does it. */
export function launchContract(deploy: Deploy): void {
  describe("launch", () => {
    test("a recipe runs as a real process, and its log and exit code come back", async () => {
      await using hub = await startHub({ deploy });

      const launched = await hub.post("/api/v1/pipelines/runs", {
        recipe_id: "hello",
        args: "big 'wide world'",
      });

      expect(launched.status).toBe(201);
      expect(launched.headers.get("location")).toBe(`/api/v1/pipelines/runs/${launched.json.run_id}`);
      expect(launched.json).toMatchObject({
        source: "pipeline",
        spec: { recipe_id: "hello", args: "big 'wide world'" },
        cmd: `/bin/sh -c 'echo "hello $*"' hello big 'wide world'`,
        key_name: ALL.name,
      });
      expect(await hub.ended(launched.json)).toMatchObject({
        status: "completed",
        exit_code: 0,
        signal: null,
      });
      expect(await hub.log(launched.json)).toBe("hello big wide world\n");
    });
  });
}
