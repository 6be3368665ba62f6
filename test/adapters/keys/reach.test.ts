import { expect, test } from "vitest";

import { sha256 } from "../../../host-agent/system/sha256.ts";

import { eachInItsFolder, keys, check, create, stored } from "./keys-command.ts";

eachInItsFolder();

test("keys create stores the reach and an end in days, and keys list and keys check show them", async () => {
  const reach = ["--recipes", "nightly_*, build", "--script-paths", "/srv/ops/**", "--runs", "own"];
  const { code, stdout: key } = await create("team", ...reach, "--expires", "90d");
  expect(code).toBe(0);
  const [entry] = (await stored()).keys;
  expect(entry).toMatchObject({
    recipes: ["nightly_*", "build"],
    script_paths: ["/srv/ops/**"],
    runs: "own",
    expires: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
  });
  const days = (Date.parse(entry!.expires!) - Date.now()) / 86_400_000;
  expect(Math.round(days * 100) / 100).toBe(90);

  expect((await keys("list")).stdout).toMatch(
    /^team +pipelines:read,scripts:write .* sha256 +nightly_\* build \/srv\/ops\/\*\* own runs$/m,
  );

  const checked = await check(key.trim());
  expect(checked.stdout).toContain(`team: expires ${entry!.expires}\nruns: only those launched as team\n`);
  expect(
    checked.stdout.split("\n").map((line) =>
      line
        .split(/ {2,}/)
        .slice(1)
        .map((cell) => cell.trim()),
    ),
  ).toEqual(
    expect.arrayContaining([
      ["yes", "nightly_*, build"],
      ["no", "-"],
      ["yes", "/srv/ops/**"],
    ]),
  );
  expect(checked.stdout + checked.stderr).not.toContain(key.trim());
});

test.for([
  [["--recipes", "a b"], "--recipes: must be a recipe id"],
  [["--script-paths", "ops/*.sh"], "--script-paths: must be an absolute path"],
  [["--runs", "mine"], "--runs: must be own or all"],
  [["--expires", "90"], "--expires: must be a date"],
  [["--expires", "0d"], "--expires: 0d is in the past"],
] as const)("keys create %o is refused and stores nothing", async ([args, message]) => {
  const { code, stderr } = await create("a", ...args);
  expect({ code, stderr }).toEqual({ code: 64, stderr: expect.stringContaining(message) });
  await expect(stored()).rejects.toThrow("ENOENT");
});

test("keys create says which surface a reach leaves open, and nothing where its scopes close it", async () => {
  expect((await create("a", "--recipes", "x")).stderr).toContain(
    "Note: --script-paths is not given, so the key a reaches every script that its scopes allow.",
  );
  const closed = await keys("create", "--name", "b", "--scopes", "pipelines:read", "--recipes", "x");
  expect(closed.stderr).not.toContain("Note:");
});

test("keys rotate makes a second key with the same rights, and ends the first after the overlap", async () => {
  const first = await create("team", "--recipes", "nightly_*");
  const rotated = await keys("rotate", "team", "--overlap", "2h");
  expect(rotated.code).toBe(0);
  const [earlier, next] = (await stored()).keys;
  const rights = { name: "team", scopes: ["pipelines:read", "scripts:write"], recipes: ["nightly_*"] };
  expect(earlier).toMatchObject({ ...rights, key_sha256: sha256(first.stdout.trim()) });
  expect(Math.round((Date.parse(earlier!.expires!) - Date.now()) / 60_000)).toBe(120);
  expect(next).toEqual({ ...rights, key_sha256: sha256(rotated.stdout.trim()), created: expect.any(String) });

  // The next overlap is longer: the first key keeps its end.
  await keys("rotate", "team", "--overlap", "9d", "--expires", "2099-01-31");
  const [oldest, middle, newest] = (await stored()).keys;
  expect(oldest).toEqual(earlier);
  expect(Math.round((Date.parse(middle!.expires!) - Date.now()) / 86_400_000)).toBe(9);
  expect(newest).toMatchObject({ ...rights, expires: "2099-01-31" });

  const refused = await keys("rotate", "team");
  expect(refused.stderr).toContain("The key team expires (2099-01-31): say when the new one does");
  expect((await stored()).keys).toHaveLength(3);
  expect((await keys("rotate", "team", "--expires", "never")).code).toBe(0);
  expect((await stored()).keys.at(-1)).not.toHaveProperty("expires");
});

test("keys rotate and keys check refuse a name and a key that are not in the file", async () => {
  await create("team");
  const before = await stored();
  expect(await keys("rotate", "nobody")).toMatchObject({ code: 1, stdout: "" });
  expect(await keys("rotate", "team", "--overlap", "soon")).toMatchObject({ code: 64 });
  const unknown = await check("sk_live_unknown_0123456789");
  expect(unknown).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("The key is not in"),
  });
  expect(unknown.stderr).not.toContain("unknown_0123456789");
  expect(await stored()).toEqual(before);
  expect(await check("")).toMatchObject({ code: 64 });
  expect((await keys("revoke", "team", "--last")).code).toBe(0);
  expect((await check("sk_live_any_0123456789abcdef")).stderr).toContain(
    "serves everyone, without a key (dev mode)",
  );
});
