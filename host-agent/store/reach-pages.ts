import type { DatabaseSync, StatementSync } from "node:sqlite";

import { literalStart, type Reach, reachesRun, targetPatterns } from "../protocol/reach.ts";
import type { Source } from "../protocol/run.ts";
import type { ListQuery } from "./list-query.ts";
import { COLUMNS } from "./run.ts";

// A page of the runs in reach must cost little among a million runs, of any key. Neither of the two plain ways does that: a
// walk over all runs, newest first, passes over a million runs of others to find ten; and a sort of all runs in reach takes a million
// to show fifty. So:
//
// 1. A short walk. It fills the page of a caller who reaches a good part of all runs.
// 2. Else runs are looked at in groups: those of one target (a recipe, or a script's real path), one key and one status. The index
//    `runs_by_target` has each group together, in the order of launches. The groups are found with a step in the index for each of
//    them, and none for each run (a skip scan). Then their newest runs are merged: a recursive query with an order is a queue, which
//    always gives the newest run of all groups and takes the next one of its group in.
// 3. On a host with a script for each run there are too many groups. Then there are that many runs in reach, too: a walk to the end
//    meets enough of them.
//
// Whether a group is in reach is decided by the function that decides it for one run, so the two always agree.

/** What a page may cost before it is found in another way. */
export interface PageBounds {
  /** How many runs the short walk passes. */
  shortWalk: number;
  /** More groups in reach than this are not merged. */
  groups: number;
  /** More targets and keys than this, in reach or not, are not looked at. */
  lookedAt: number;
}

const BOUNDS: PageBounds = { shortWalk: 1_000, groups: 1_000, lookedAt: 10_000 };

/** What follows all texts that begin alike. */
const LAST = "\u{10ffff}";
const IN_REACH = "in_reach(:reach, source, key_name, target)";

interface Group {
  target: string;
  keyName: string;
  status: string;
}

/** Values of named parameters. */
type Given = Record<string, string | number>;

export interface ReachQuery extends ListQuery {
  reach: Reach;
}

/** True when this reach leaves out runs of this surface. */
export function limitsRuns(reach: Reach | undefined, source: Source): reach is Reach {
  return reach !== undefined && (reach.key_name !== undefined || targetPatterns(reach, source) !== undefined);
}

/** Finds the rows of the runs in reach, newest first: one more than the page has, if there is one. */
export function reachPages(
  db: DatabaseSync,
  bounds: PageBounds = BOUNDS,
): (query: ReachQuery) => Iterable<unknown> {
  db.function("in_reach", { deterministic: true }, reachTest());
  const walks = {
    all: walkOver(db, "runs_by_source", "", bounds.shortWalk),
    status: walkOver(db, "runs_by_status", "AND status = :status", bounds.shortWalk),
    label: walkOver(db, "runs_by_label", "AND label = :label", bounds.shortWalk),
    both: walkOver(
      db,
      "runs_by_label_and_status",
      "AND label = :label AND status = :status",
      bounds.shortWalk,
    ),
  };
  const running = db.prepare(
    `SELECT ${COLUMNS} FROM runs INDEXED BY runs_alive WHERE ended_at IS NULL AND source = :source
      AND status IN ('running', 'launching') AND label IS coalesce(:label, label)
      AND ${IN_REACH} AND seq < :before ORDER BY seq DESC LIMIT :limit`,
  );
  const ofKey = groupsIn(db, "runs_by_key", { target: "", label: "" });
  const ofTarget = groupsIn(db, "runs_by_target", { target: "AND target = :target", label: "" });
  const ofLabel = groupsIn(db, "runs_by_label_and_target", {
    target: "AND target = :target",
    label: "AND label = :label",
  });

  function walkFor({ label, status }: ReachQuery) {
    if (label !== undefined) return status === undefined ? walks.label : walks.both;
    return status === undefined ? walks.all : walks.status;
  }

  return (query) => {
    const { source, reach, label, status, before = Number.MAX_SAFE_INTEGER, limit } = query;
    const page = { source, before, limit: limit + 1 };
    const filter = { reach: JSON.stringify(reach) };
    // Few runs are alive.
    if (status === "running") return running.iterate({ ...page, ...filter, label: label ?? null });
    const named = { ...(label !== undefined && { label }), ...(status !== undefined && { status }) };
    const walk = walkFor(query);
    const end = walk.endOf({ source, before, ...named });
    const rows = walk.rows({ ...page, ...filter, ...named, until: end ?? 0 }).toArray();
    if (end === undefined || rows.length > limit) return rows;
    const isByKey = targetPatterns(reach, source) === undefined && label === undefined;
    const index = isByKey ? ofKey : label === undefined ? ofTarget : ofLabel;
    const groups = isByKey ? ofKey.own(query) : index.find(query, bounds);
    return groups === undefined
      ? walk.rows({ ...page, ...filter, ...named, until: 0 })
      : index.merge(groups, { ...page, ...(label !== undefined && { label }) });
  };
}

/** Walks over the runs with this filter, newest first, and gives those in reach. */
function walkOver(db: DatabaseSync, index: string, filter: string, shortWalk: number) {
  const from = `FROM runs INDEXED BY ${index} WHERE source = :source ${filter} AND seq < :before`;
  const end = db.prepare(`SELECT seq ${from} ORDER BY seq DESC LIMIT 1 OFFSET ${shortWalk}`);
  const rows = db.prepare(
    `SELECT ${COLUMNS} ${from} AND seq > :until AND ${IN_REACH} ORDER BY seq DESC LIMIT :limit`,
  );
  return {
    /** The sequence number at which a short walk ends; undefined when it passes all runs. */
    endOf: (given: Given) => (end.get(given) as { seq: number } | undefined)?.seq,
    rows: (given: Given) => rows.iterate(given),
  };
}

/** The groups of runs in an index, which begins with `source`, the label or the target as they are given, the key and the status. */
function groupsIn(db: DatabaseSync, index: string, { target, label }: { target: string; label: string }) {
  // One column at a time, because SQLite would compare the three as one value by the first of them only, and pass over all its runs.
  const step = (column: string, given: string, isAfter: string) =>
    db.prepare(
      `SELECT min(${column}) AS next FROM runs INDEXED BY ${index}
        WHERE source = :source ${label} ${given} AND ${column} ${isAfter} :after`,
    );
  const hasTarget = target !== "";
  const first = hasTarget ? step("target", "AND target < :end", ">=") : undefined;
  const next = hasTarget ? step("target", "AND target < :end", ">") : undefined;
  const key = step("key_name", target, ">");
  const state = step("status", `${target} AND key_name = :key_name`, ">");
  const merged = db.prepare(mergeOf(index, { target, label }));

  function* groupsOfKey(given: Given, keyName: string, status: string | undefined): Generator<Group> {
    for (const found of values(state, { ...given, key_name: keyName })) {
      if (status === undefined || status === found)
        yield { target: String(given["target"] ?? ""), keyName, status: found };
    }
  }

  return {
    /** The groups in reach; undefined when there are too many to look at. */
    find({ source, reach, label: labelled, status }: ReachQuery, bounds: PageBounds): Group[] | undefined {
      const groups: Group[] = [];
      const given = { source, ...(labelled !== undefined && { label: labelled }) };
      const { key_name: own, ...ofAnyKey } = reach;
      let looked = 0;
      for (const { start, end } of rangesOf(targetPatterns(reach, source))) {
        for (const found of values(next!, { ...given, end }, start, first)) {
          if (++looked > bounds.lookedAt) return undefined;
          const run = { source, keyName: "", target: targetIn(source, found) };
          if (!reachesRun(ofAnyKey, run)) continue;
          const ofFound = { ...given, target: found };
          for (const keyName of own === undefined ? values(key, ofFound) : [own]) {
            if (++looked > bounds.lookedAt) return undefined;
            groups.push(...groupsOfKey(ofFound, keyName, status));
          }
          if (groups.length > bounds.groups) return undefined;
        }
      }
      return groups;
    },

    /** The groups of the key whose runs alone are in reach, in an index without targets. */
    own: ({ source, reach, status }: ReachQuery) =>
      groupsOfKey({ source }, reach.key_name ?? "", status).toArray(),

    /** The rows of these groups, newest first. */
    merge(groups: readonly Group[], page: Given): Iterable<unknown> {
      const json = JSON.stringify(groups.map((group) => [group.target, group.keyName, group.status]));
      return merged.iterate({ ...page, groups: json });
    },
  };
}

/** The values of a column from `from` on that a step finds one after the other. */
function* values(step: StatementSync, given: Given, from = "", first = step): Generator<string> {
  for (let after = nextOf(first, given, from); after !== undefined; after = nextOf(step, given, after)) {
    yield after;
  }
}

function nextOf(step: StatementSync, given: Given, after: string): string | undefined {
  return (step.get({ ...given, after }) as { next: string | null }).next ?? undefined;
}

function mergeOf(index: string, { target, label }: { target: string; label: string }): string {
  const newest = (group: string, before: string) =>
    `(SELECT max(seq) FROM runs INDEXED BY ${index} WHERE source = :source ${label}
      ${target.replace(":target", `${group}.target`)} AND key_name = ${group}.key_name
      AND status = ${group}.status AND seq < ${before})`;
  const columns = COLUMNS.replaceAll(/\b(?:key_name|status)\b/g, "runs.$&");
  return `
    WITH RECURSIVE
      groups (target, key_name, status) AS MATERIALIZED
        (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(:groups)),
      page (newest, target, key_name, status) AS (
        SELECT ${newest("groups", ":before")}, target, key_name, status FROM groups
        UNION ALL
        SELECT ${newest("page", "page.newest")}, target, key_name, status FROM page WHERE newest IS NOT NULL
        ORDER BY 1 DESC
        LIMIT :limit
      )
    SELECT ${columns} FROM page CROSS JOIN runs ON runs.seq = page.newest ORDER BY page.newest DESC`;
}

/** For SQL: whether a row is in the reach of this JSON. The last one is remembered, because a statement asks for row after row. */
function reachTest() {
  let text = "";
  let reach: Reach = {};
  return (json: unknown, source: unknown, keyName: unknown, target: unknown): number => {
    if (json !== text) {
      reach = JSON.parse(String(json)) as Reach;
      text = String(json);
    }
    const of = source as Source;
    const run = { source: of, keyName: String(keyName), target: targetIn(of, String(target)) };
    return reachesRun(reach, run) ? 1 : 0;
  };
}

/** What the column `target` says: another text where nothing was recorded. */
function targetIn(source: Source, column: string): string | undefined {
  return column === (source === "pipeline" ? "" : "/") ? undefined : column;
}

/** Where the targets of these patterns are: among the texts that begin as a pattern does before its first `*`. They do not overlap. */
function rangesOf(patterns: readonly string[] = ["*"]): { start: string; end: string }[] {
  const starts = [...new Set(patterns.map(literalStart))];
  return starts
    .filter((start) => !starts.some((other) => other !== start && start.startsWith(other)))
    .map((start) => ({ start, end: `${start}${LAST}` }));
}
