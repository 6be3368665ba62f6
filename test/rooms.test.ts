import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { expect, test } from "vitest";

import { tempDir } from "./support/temp-dir.ts";

const PROJECT = join(import.meta.dirname, "..");

/** What each room of the host-agent may import of ours, in addition to its own files. */
const ROOMS: Record<string, string[]> = {
  system: [],
  protocol: [],
  logs: ["system", "protocol"],
  executor: ["system", "protocol", "logs"],
  store: ["system", "protocol", "executor/executor.ts"],
  catalogue: ["system", "protocol"],
  callbacks: ["system", "protocol"],
  audit: ["system", "protocol"],
  door: ["system", "protocol"],
  runs: ["system", "protocol", "store", "logs", "catalogue", "executor/executor.ts"],
};
/** What a room may import types of, in addition. */
const TYPES_OF: Record<string, string[]> = { callbacks: ["store"], audit: ["store"] };
/** Rooms that run anywhere, or look at no file or process themselves. */
const WITHOUT_NODE = new Set(["runs", "protocol"]);
/** The shipped recipes and the unit are no modules of the agent. */
const NO_ROOMS = new Set(["recipes", "systemd"]);

const TARGETS = [
  ...Object.keys(ROOMS).map((room) => `${room}/probe.ts`),
  "executor/executor.ts",
  "agent.ts",
  "config.ts",
];

test("every folder of the host-agent is a room whose imports are bounded", () => {
  const folders = readdirSync(join(PROJECT, "host-agent"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !NO_ROOMS.has(entry.name))
    .map((entry) => entry.name);
  expect(folders.toSorted()).toEqual(Object.keys(ROOMS).toSorted());
});

test("the linter refuses each import that a room may not have, and no other", async () => {
  const dir = tempDir();
  writeFileSync(join(dir, ".oxlintrc.json"), readFileSync(join(PROJECT, ".oxlintrc.json")));
  const expected: string[] = [];
  for (const [room, allowed] of Object.entries(ROOMS)) {
    const others = TARGETS.filter((target) => dirname(target) !== room);
    const specifiers = [
      ...others.map((target) => `../${target}`),
      "node:fs",
      "../../handlers/app.ts",
      "../../adapters/node/node.ts",
      "../../test/support/hub.ts",
      "./own.ts",
    ];
    const mayImport = (specifier: string, places: string[]): boolean =>
      specifier === "./own.ts" ||
      (specifier === "node:fs" && !WITHOUT_NODE.has(room)) ||
      places.some((place) => specifier === `../${place}` || specifier.startsWith(`../${place}/`));
    for (const [file, places] of [
      ["probe.ts", allowed],
      ["types.ts", [...allowed, ...(TYPES_OF[room] ?? [])]],
    ] as const) {
      const path = `host-agent/${room}/${file}`;
      write(dir, path, specifiers, file === "types.ts");
      for (const specifier of specifiers)
        if (!mayImport(specifier, [...places])) expected.push(`${path} ${specifier}`);
    }
  }
  const handlers = [
    "node:fs",
    "cloudflare:workers",
    "../adapters/node/node.ts",
    "../host-agent/agent.ts",
    "../host-agent/system/sha256.ts",
  ];
  write(dir, "handlers/probe.ts", [...handlers, "../host-agent/protocol/run.ts"]);
  expected.push(...handlers.map((specifier) => `handlers/probe.ts ${specifier}`));

  expect((await refusals(dir)).toSorted()).toEqual(expected.toSorted());
});

function write(dir: string, path: string, specifiers: string[], asTypes = false): void {
  const lines = specifiers.map(
    (specifier, i) => `import ${asTypes ? "type " : ""}{ A as A${i} } from "${specifier}";`,
  );
  const names = specifiers.map((_, i) => `A${i}`);
  const uses = asTypes
    ? `export type Used = ${names.join(" | ")};`
    : `export const used = [${names.join(", ")}];`;
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), `${lines.join("\n")}\n${uses}\n`);
}

/** The file and specifier of each import that is refused. */
async function refusals(dir: string): Promise<string[]> {
  const oxlint = join(PROJECT, "node_modules", ".bin", "oxlint");
  const output = await new Promise<string>((resolve) => {
    execFile(oxlint, ["--format", "json"], { cwd: dir, maxBuffer: 2 ** 26 }, (_error, stdout) =>
      resolve(stdout),
    );
  });
  const { diagnostics } = JSON.parse(output) as {
    diagnostics: { code: string; filename: string; message: string }[];
  };
  return diagnostics
    .filter(({ code }) => code.includes("no-restricted-imports"))
    .map(({ filename, message }) => `${filename} ${/'([^']+)' import/.exec(message)?.[1]}`);
}

test("no file of tests has more than 400 lines", () => {
  const long = readdirSync(join(PROJECT, "test"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !/(?:^|\/)(?:node_modules|generated)\//.test(name))
    .map((name) => ({
      name,
      lines: readFileSync(join(PROJECT, "test", name), "utf8").split("\n").length - 1,
    }))
    .filter(({ lines }) => lines > 400);
  expect(long).toEqual([]);
});
