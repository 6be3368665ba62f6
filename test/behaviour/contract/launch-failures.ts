import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { type Deploy, type Hub, sharedHub, startHub } from "../../support/hub.ts";

const PIPELINES = "/api/v1/pipelines/runs";
const SCRIPTS = "/api/v1/scripts/runs";

/** What is wrong, the recipe's id, what it says instead, and what is said of it. */
const BROKEN = [
  [
    "a missing working folder",
    "no-cwd",
    { cwd: "nowhere", command: ["true"] },
    "its working folder does not exist",
  ],
  [
    "a working folder that is a file",
    "file-cwd",
    { cwd: "recipes.json", command: ["true"] },
    "working folder",
  ],
  [
    "a missing program",
    "no-program",
    { command: ["no-such-program"] },
    'program "no-such-program" was not found or is not executable',
  ],
  [
    "a program that is not executable",
    "no-x",
    { command: ["./recipes.json"] },
    'program "./recipes.json" is not executable: it has no x bit; chmod +x sets it',
  ],
  ["a folder as the program", "folder", { command: ["/tmp"] }, 'program "/tmp" is a folder, not a program'],
  [
    "a log folder that cannot be made",
    "no-logs",
    { command: ["true"], log_dir: "recipes.json/x" },
    "ENOTDIR",
  ],
] as const;

/** Launches that start no command, as every deployment answers them. */
export function launchFailuresContract(deploy: Deploy): void {
  describe("launch", () => {
    describe("of a broken recipe", () => {
      const broken = BROKEN.map(([, recipe_id, recipe]) => ({
        recipe_id,
        title: "Job",
        description: "",
        ...recipe,
      }));
      const withBroken = sharedHub({ deploy, recipes: broken });

      test.for(BROKEN)(
        "%s answers with a clear problem, records a failed run and does not consume the Idempotency-Key",
        async ([, recipe_id, , reason]) => {
          const hub = withBroken();
          const launch = () =>
            hub.post(PIPELINES, { recipe_id }, { headers: { "idempotency-key": recipe_id } });
          const failures = async () =>
            (await failedRuns(hub, PIPELINES)).filter(
              ({ spec }: { spec: { recipe_id: string } }) => spec.recipe_id === recipe_id,
            );

          for (const attempt of [1, 2]) {
            const refused = await launch();
            expect(refused.status).toBe(422);
            expect(refused.json).toMatchObject({
              code: "launch_failed",
              detail: expect.stringContaining(reason),
            });
            expect(refused.json.detail, "no path of the host").not.toContain(hub.dir);
            expect(await failures()).toHaveLength(attempt);
          }
          const [failed] = await failures();
          expect(failed).toMatchObject({
            status: "failed",
            pid: null,
            exit_code: null,
            status_reason: expect.stringContaining(reason),
          });
          expect(failed.ended_at).not.toBeNull();
          const log = await hub.get(`${PIPELINES}/${failed.run_id}/logs`);
          expect([log.status, log.json]).toEqual([
            200,
            { run_id: failed.run_id, offset: 0, size: 0, chunk: "", more: false },
          ]);
          expect((await hub.get(`${PIPELINES}/${failed.run_id}/logs?after=1`)).json).toMatchObject({
            code: "offset_beyond_end",
            size: 0,
          });

          const repaired = {
            recipe_id,
            title: "Job",
            description: "",
            cwd: ".",
            log_dir: "logs",
            command: ["true"],
          };
          const others = broken.filter((recipe) => recipe.recipe_id !== recipe_id);
          await writeFile(hub.recipesFile, JSON.stringify({ recipes: [repaired, ...others] }));
          const launched = await launch();
          expect(launched.status).toBe(201);
          expect(launched.headers.get("idempotent-replayed")).toBeNull();
          expect(await hub.ended(launched.json)).toMatchObject({ status: "completed" });
        },
      );
    });

    test("a script with a missing interpreter answers with a clear problem, and runs with the same Idempotency-Key once the interpreter exists", async () => {
      await using hub = await startHub({ deploy });
      const interpreter = join(hub.dir, "interpreter");
      const path = await hub.script("job.sh", `#!${interpreter} -e\necho done\n`);
      const launch = () => hub.post(SCRIPTS, { path }, { headers: { "idempotency-key": "k" } });

      const refused = await launch();
      expect(refused.status).toBe(422);
      expect(refused.json).toMatchObject({
        code: "launch_failed",
        detail: expect.stringContaining("its interpreter"),
      });
      expect(await failedRuns(hub, SCRIPTS)).toHaveLength(1);

      await symlink("/bin/sh", interpreter);
      const launched = await launch();
      expect(launched.status).toBe(201);
      expect(await hub.ended(launched.json)).toMatchObject({ status: "completed" });
      expect(await hub.log(launched.json)).toBe("done\n");
    });
  });
}

async function failedRuns(hub: Hub, surface: string) {
  return (await hub.get(`${surface}?status=failed`)).json.runs;
}
