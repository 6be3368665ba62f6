// oxlint-disable vitest/no-conditional-expect, no-await-in-loop -- a property has its cases
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";

import * as fc from "fast-check";
import { expect, onTestFinished, test } from "vitest";

import { ApiProblem } from "../../../host-agent/protocol/problem.ts";
import { openScripts } from "../../../host-agent/catalogue/scripts.ts";

/** What a listing of the root shows, in its order. */
const OPEN = ["a.sh", "in.sh", "sub/b.sh"];

/** A root with folders, scripts and links to everywhere, next to files that must stay closed. */
function makeTree() {
  const top = realpathSync(mkdtempSync(join(tmpdir(), "paths-")));
  onTestFinished(() => rmSync(top, { recursive: true }));
  const root = join(top, "root");
  for (const folder of ["root", "root/sub", "root/sub.sh", "root-evil", "outside"])
    mkdirSync(join(top, folder));
  for (const file of [
    "root/a.sh",
    "root/sub/b.sh",
    "root/plain",
    "root-evil/a.sh",
    "outside/secret.sh",
    "outside/plain",
  ]) {
    writeFileSync(join(top, file), `# ${file}`);
  }
  for (const [link, target] of [
    ["root/in.sh", "sub/b.sh"],
    ["root/out.sh", "../outside/secret.sh"],
    ["root/up", ".."],
    ["root/away", join(top, "outside")],
    ["root/dangling.sh", "nowhere.sh"],
    ["root/dangling-out.sh", "../outside/nowhere.sh"],
    ["root/loop.sh", "loop.sh"],
    ["root/plain.sh", "plain"],
    ["outside/back", join(root, "sub")],
  ] as const) {
    symlinkSync(target, join(top, link));
  }
  return { top, root };
}

const PIECES = [
  "..",
  ".",
  "",
  "root",
  "sub",
  "sub.sh",
  "root-evil",
  "outside",
  "up",
  "away",
  "back",
  "a.sh",
  "b.sh",
  "in.sh",
];
const MORE = [
  "out.sh",
  "secret.sh",
  "plain",
  "plain.sh",
  "loop.sh",
  "dangling.sh",
  "dangling-out.sh",
  "nowhere.sh",
  "\0",
  "..%2f",
  "．．",
  " ",
  "~",
  "-rf",
];

test("a path of random pieces opens only the file at its real path, and only inside the roots", async () => {
  const { top, root } = makeTree();
  const scripts = openScripts([root]);
  const piece = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...PIECES, ...MORE) },
    { weight: 1, arbitrary: fc.string({ unit: "binary", maxLength: 5 }) },
  );
  const path = fc
    .tuple(
      fc.constantFrom(root, top, `${root}/..`, "", "/proc/self/root", "/proc/self/cwd"),
      fc.array(piece, { maxLength: 7 }),
    )
    .map(([start, pieces]) => [start, ...pieces].join("/"));

  async function expectListing(asked: string, real: string | undefined): Promise<void> {
    const isOpen =
      real !== undefined && (real === root || real.startsWith(`${root}/`)) && statSync(real).isDirectory();
    const found = await scripts.list(asked).catch((error: unknown) => error);
    if (!isOpen) {
      expect(found).toBeInstanceOf(ApiProblem);
      expect(["path_forbidden", "script_not_found"]).toContain((found as ApiProblem).code);
      return expect((found as ApiProblem).message).not.toContain(top);
    }
    const listed = (found as Awaited<ReturnType<typeof scripts.list>>).scripts.map((script) => script.path);
    expect(listed).toEqual(
      OPEN.map((name) => join(root, name)).filter((each) => each.startsWith(`${real}/`)),
    );
  }

  await fc.assert(
    fc.asyncProperty(path, async (asked) => {
      const real = realPathOf(asked, root);
      const isOpen =
        real !== undefined &&
        asked.endsWith(".sh") &&
        real.endsWith(".sh") &&
        real.startsWith(`${root}/`) &&
        statSync(real).isFile();
      for (const work of [() => scripts.read(asked), () => scripts.approve(asked)]) {
        const found = await work().catch((error: unknown) => error);
        if (isOpen) {
          expect(found).toMatchObject({ path: real });
          if ("content" in (found as object))
            expect(found).toMatchObject({ content: readFileSync(real, "utf8") });
        } else {
          expect(found).toBeInstanceOf(ApiProblem);
          expect(["path_forbidden", "script_not_found"]).toContain((found as ApiProblem).code);
          expect((found as ApiProblem).message).not.toContain(top);
        }
      }
      await expectListing(asked, real);
    }),
    { numRuns: 600 },
  );
});

/**
 * By the kernel, once the dots are resolved as text: the real path. Undefined for a path whose words, or one of whose
 * links, lead out of the root, and for one with a null byte, which the dots may take out of the text.
 */
function realPathOf(asked: string, root: string): string | undefined {
  if (asked.includes("\0")) return undefined;
  const words = normalize(asked).replace(/(?<=.)\/$/, "");
  if (words !== root && !words.startsWith(`${root}/`)) return undefined;
  try {
    let real = root;
    for (let at = words; at !== root; at = dirname(at)) {
      const found = realpathSync.native(at);
      if (found !== root && !found.startsWith(`${root}/`)) return undefined;
      if (at === words) real = found;
    }
    return real;
  } catch {
    return undefined;
  }
}
