import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";

import { describe, expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "../..");
const PAGE = readFileSync(join(PROJECT, "docs/architecture.md"), "utf8");

/** The table of the folders: what each may import, with names of the host-agent's folders written out. */
const FOLDERS = new Map(
  [...PAGE.matchAll(/^\| `(?<folder>[^`]+)` \| .+ \| (?<allowed>[^|]+) \|$/gm)].map(({ groups }) => {
    const { folder, allowed } = groups!;
    const names = [...allowed!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!);
    return [folder!, allowed!.startsWith("all folders") ? ["host-agent/*"] : names.map(writtenOut(folder!))];
  }),
);

describe("docs/architecture.md", () => {
  test("names only files and folders that exist", () => {
    const named = [...PAGE.matchAll(/`((?:handlers|host-agent|adapters|test)(?:\/[\w.-]+)*)`/g)];

    expect(named.length).toBeGreaterThan(60);
    expect(
      [...new Set(named.map(([, path]) => path!))].filter((path) => !existsSync(join(PROJECT, path))),
    ).toEqual([]);
  });

  test("has one row for each folder of the source", () => {
    const folders = ["host-agent", "adapters"].flatMap((top) => [
      top,
      ...readdirSync(join(PROJECT, top), { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !["dist", "node_modules"].includes(entry.name))
        .map((entry) => `${top}/${entry.name}`),
    ]);

    expect([...FOLDERS.keys()].toSorted()).toEqual(["handlers", ...folders].toSorted());
  });

  test("lists every folder that the files of a folder import", () => {
    const wrong = sourceFiles().flatMap((file) =>
      importsOf(file)
        .map((imported) => ({ from: folderOf(file), to: folderOf(imported), file }))
        .filter(({ from, to }) => from !== to && !isAllowed(from, to))
        .map(({ from, to }) => `${file}: ${from} may not import ${to}`),
    );

    expect(wrong).toEqual([]);
  });

  test("draws the same imports between the folders of the host-agent as its table allows", () => {
    const arrows = [...PAGE.matchAll(/^ {2}(\w+) (?:-->|-\. types \.->) (\w+)/gm)]
      .map(([, from, to]) => ({ from: `host-agent/${from}`, to: `host-agent/${to}` }))
      .filter(({ from, to }) => FOLDERS.has(from) && !to.endsWith("/system"));
    const allowed = [...FOLDERS].flatMap(([from, names]) =>
      from.startsWith("host-agent/")
        ? names.filter((to) => !/^host-agent(?:\/protocol|\/system)?$/.test(to)).map((to) => ({ from, to }))
        : [],
    );

    expect(new Set(arrows.map(asText))).toEqual(new Set(allowed.map(asText)));
  });

  test("has at most 12 floors in the host-agent: a folder is above all that its files import", () => {
    const files = sourceFiles().filter((file) => file.startsWith("host-agent/"));
    const rooms = Map.groupBy(files, roomOf);
    const below = new Map(
      [...rooms].map(([room, own]) => [
        room,
        new Set(
          own
            .flatMap(importsOf)
            .map(roomOf)
            .filter((other) => other !== room && rooms.has(other)),
        ),
      ]),
    );
    const floorOf = (room: string, above: string[] = []): number => {
      expect(above, "a circle of folders").not.toContain(room);
      const floors = [...below.get(room)!].map((other) => floorOf(other, [...above, room]));
      return 1 + Math.max(0, ...floors);
    };

    const floors = [...rooms.keys()].map((room) => floorOf(room));
    expect(Math.max(...floors)).toBeGreaterThan(5);
    expect(Math.max(...floors)).toBeLessThanOrEqual(12);
  });

  test("describes a launch, a log page, a kill and an end in about a dozen steps each", () => {
    const ways = PAGE.split(/^## The way of /m).slice(1);

    expect(ways.map((way) => way.split("\n", 1)[0])).toEqual(["a launch", "a log page", "a kill", "an end"]);
    for (const way of ways) expect(way.match(/^\d+\. /gm)!.length).toBeLessThanOrEqual(14);
  });
});

const asText = ({ from, to }: { from: string; to: string }) => `${from} -> ${to}`;

function writtenOut(folder: string): (name: string) => string {
  const isOfAgent = folder.startsWith("host-agent/");
  return (name) => {
    if (isOfAgent) return name === "host-agent" ? name : `host-agent/${name}`;
    return name === "host-agent" ? "host-agent/*" : name;
  };
}

function isAllowed(from: string, to: string): boolean {
  const allowed = FOLDERS.get(from) ?? [];
  return allowed.includes(to) || (allowed.includes("host-agent/*") && to.startsWith("host-agent"));
}

function sourceFiles(): string[] {
  return ["handlers", "host-agent", "adapters"].flatMap((top) =>
    readdirSync(join(PROJECT, top), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(?:tsx?|js)$/.test(entry.name))
      .map((entry) => relative(PROJECT, join(entry.parentPath, entry.name)))
      .filter((file) => !/(?:^|\/)(?:dist|node_modules)\//.test(file)),
  );
}

/** The project's own files that a file imports, types included. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(PROJECT, file), "utf8");
  return [...text.matchAll(/(?:from |import\()"(\.[^"]+)"/g)].map(([, path]) =>
    normalize(join(dirname(file), path!)),
  );
}

/** A folder of the host-agent, or a file that is in none. */
function roomOf(file: string): string {
  return file.split("/").slice(0, 2).join("/");
}

/** The folder of the table that a file is in. */
function folderOf(file: string): string {
  const [top, second, third] = file.split("/");
  return top === "handlers" || third === undefined ? top! : `${top}/${second}`;
}
