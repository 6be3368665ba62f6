import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { expect, test } from "vitest";

import { ALL, startHub } from "../support/hub.ts";

const CLIENT = fileURLToPath(new URL("../client/", import.meta.url));
const require = createRequire(join(CLIENT, "package.json"));
const folderOf = (name: string) => dirname(require.resolve(`${name}/package.json`));

/** What a program printed; the error of a failed program has its output. */
async function node(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: CLIENT }).catch(
    (error: Error & { stdout: string }) => {
      throw new Error(`${error.message}\n${error.stdout}`, { cause: error });
    },
  );
  return stdout;
}

test("a client generated from the served OpenAPI document compiles, and launches, follows, lists and kills runs", async () => {
  const endless = {
    recipe_id: "endless",
    title: "Endless",
    description: "Says one line and sleeps",
    command: ["/bin/sh", "-c", "echo begun; exec sleep 300"],
  };
  await using hub = await startHub({ recipes: [endless] });
  const document = join(hub.dir, "openapi.json");
  await writeFile(document, (await hub.get("/openapi.json")).bytes);
  await mkdir(join(CLIENT, "generated"), { recursive: true });

  await node(join(folderOf("openapi-typescript"), "bin/cli.js"), document, "-o", "generated/hub.d.ts");
  expect(await node(join(folderOf("typescript"), "bin/tsc"), "-p", ".")).toBe("");
  const said = JSON.parse(await node("client.ts", hub.url, ALL.key));

  expect(said).toEqual({
    run_id: expect.stringMatching(/^run_[0-9a-f]{12}$/),
    args: "",
    text: "begun\n",
    found: [said.run_id],
    killed: "killed",
    error: { code: "run_not_found", status: 404 },
  });
  const run = await hub.ended({ source: "pipeline", run_id: said.run_id });
  expect(run).toMatchObject({ status: "killed", signal: "SIGTERM" });
});
