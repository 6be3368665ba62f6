import { expect, test } from "vitest";

import { parseKeys } from "../../handlers/keys.ts";
import { sha256 } from "../../host-agent/system/sha256.ts";

/** A keys file with a key for each name. */
function fileOf(...names: string[]): string {
  const keys = names.map((name, i) => ({ name, key: `sk_test_0123456789${i}`, scopes: ["*"] }));
  return JSON.stringify({ keys });
}

test.for(["dev", "public", "Dev", "PUBLIC", "d e v", "\uff44ev"])(
  "a key may not be named %s, as requests without a key are in the records",
  async (name) => {
    await expect(parseKeys(fileOf(name), sha256)).rejects.toThrow("keys.0.name: must not be dev or public");
  },
);

test.for([
  ["acme", "Acme"],
  ["acme prod", "acmeprod"],
  ["acme", "ac\u0301me"],
  ["acme", "\uff41cme"],
])("two clients may not have the names %s and %s, which people take for one", async ([one, two]) => {
  await expect(parseKeys(fileOf(one!, two!), sha256)).rejects.toThrow(
    /^keys\.1\.name: .* looks like the name /,
  );
});

test("a name may not mix alphabets whose letters look the same", async () => {
  await expect(parseKeys(fileOf("\u0430cme"), sha256)).rejects.toThrow("must not mix Latin letters");
});

test("keys of one name, and names of any one alphabet, are accepted", async () => {
  const names = [
    "acme",
    "acme",
    "acme-2",
    "acme_2",
    "\u0441\u043a\u043b\u0430\u0434",
    "\u65e5\u672c",
    "devops",
    "zo\u00eb",
  ];
  expect(await parseKeys(fileOf(...names), sha256)).toMatchObject({ mode: "enforced" });
});
