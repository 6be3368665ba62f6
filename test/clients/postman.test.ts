import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { clientsBlock } from "../support/clients-page.ts";
import type { Hub } from "../support/hub.ts";
import { servedDocument } from "../support/openapi-check.ts";
import {
  needsTool,
  pageVariables,
  runTool,
  type Sent,
  sentIn,
  shell,
  startExampleHub,
  successesOf,
} from "./tools.ts";

const HAS_CURL = spawnSync("curl", ["--version"]).status === 0;

describe("Postman's tools", () => {
  test(
    "newman calls every operation in the collection that Postman's converter makes, and each answer is the documented success",
    needsTool("newman", HAS_CURL, "curl is not installed"),
    async () => {
      await using hub = await startExampleHub();

      const sent = await runPageBlock(hub, "newman.sh", ["prepare.cjs"]);

      expect(sent.flatMap(({ failed }) => failed)).toEqual([]);
      await expectEveryOperation(hub, sent);
      expect(sent.filter(({ assertions }) => assertions !== 1)).toEqual([]);
    },
  );

  test(
    "the contract tests that Portman makes of the document pass against a live Hub, for every operation",
    needsTool("portman", HAS_CURL, "curl is not installed"),
    async () => {
      await using hub = await startExampleHub();

      const sent = await runPageBlock(hub, "portman.sh", ["portman.json", "postman.json"]);

      expect(sent.flatMap(({ failed }) => failed)).toEqual([]);
      await expectEveryOperation(hub, sent);
      // The success, the content type, the body, its schema and the id of the request; a launch has its Location too.
      expect(sent.filter(({ status, assertions }) => assertions !== (status === 201 ? 6 : 5))).toEqual([]);
    },
  );
});

/** Runs a shell block of docs/clients.md that ends with newman, next to files of the page; what newman sent. */
async function runPageBlock(hub: Hub, name: string, files: string[]): Promise<Sent[]> {
  const script = await hub.script("job.sh", "echo begun; exec sleep 300");
  for (const file of files) writeFileSync(join(hub.dir, file), clientsBlock(file));
  const report = join(hub.dir, "report.json");
  // In addition to the output for people, which shows why a run has failed.
  const block = `${clientsBlock(name).trimEnd()} --reporters cli,json --reporter-json-export ${report}`;
  await runTool(hub.dir, shell(block), { ...pageVariables(hub), SCRIPT: script });
  return sentIn(report);
}

async function expectEveryOperation(hub: Hub, sent: readonly Sent[]): Promise<void> {
  const answers = sent.map(({ operation, status }) => `${operation} ${status}`);
  expect(answers.toSorted()).toEqual(successesOf(await servedDocument(hub.url)).toSorted());
}
