import { type Dirent, readdirSync, realpathSync } from "node:fs";
import { join, relative, sep } from "node:path";

import { isWithin, leftOutTest, NOTHING_LEFT_OUT } from "../../../host-agent/inspection.ts";
import { modeOf, nearestFolder, statOf, strangersAt } from "../files.ts";
import { type Check, fail, type Finding, pass, type Patient, warn } from "../finding.ts";

/** The script roots: anyone who may write there decides what clients run. */
export const roots: Check = {
  name: "Script roots",
  look(patient) {
    const { scriptRoots: paths } = patient.agent;
    if (paths.length === 0) return [pass("None is set: no script can be launched.")];
    return paths.flatMap((root) => lookAt(root, patient));
  },
};

function lookAt(root: string, patient: Patient): Finding[] {
  const stats = statOf(root);
  if (!stats?.isDirectory()) {
    const advice = stats
      ? "Set the folder that contains it."
      : `Create it (mkdir -p ${root}), or remove it from HUB_SCRIPT_ROOTS.`;
    // One of the two default roots may be missing.
    return [
      patient.env["HUB_SCRIPT_ROOTS"] === undefined
        ? warn(`${root} does not exist.`, advice)
        : fail(`${root} ${stats ? "is not a folder" : "does not exist"}.`, advice),
    ];
  }
  const findings: Finding[] = [];
  if (stats.uid !== 0 && stats.uid !== process.getuid?.()) {
    findings.push(
      fail(
        `${root} belongs to uid ${stats.uid}, who decides what clients run.`,
        `chown it to root or to the user of the service (uid ${process.getuid?.()}).`,
      ),
    );
  } else if ((stats.mode & 0o002) !== 0) {
    findings.push(
      fail(`Every user may put scripts into ${root} (mode ${modeOf(stats)}).`, `chmod o-w ${root}`),
    );
  } else if ((stats.mode & 0o020) !== 0) {
    findings.push(
      warn(
        `The group ${stats.gid} may put scripts into ${root}.`,
        `chmod g-w ${root}, unless this is on purpose.`,
      ),
    );
  }
  if (root === sep) {
    findings.push(
      warn(
        "The root / allows every script of this host.",
        "Set HUB_SCRIPT_ROOTS to the folders that you mean.",
      ),
    );
    return findings;
  }
  findings.push(...openPlaces(root), ...within(root, patient));
  return findings.length > 0 ? findings : [pass(`${root} exists, and other users cannot change it.`)];
}

/** The most folders and scripts of a root that are checked. */
const MAX_PLACES = 5_000;

/** The first folder or script in a root that others may change. */
function openPlaces(root: string): Finding[] {
  const folders = [root];
  for (let looked = 0; folders.length > 0 && looked < MAX_PLACES;) {
    const folder = folders.shift()!;
    for (const entry of entriesOf(folder)) {
      const path = join(folder, entry.name);
      const isFolder = entry.isDirectory() && !entry.name.startsWith(".") && entry.name !== "node_modules";
      if (!isFolder && !(entry.isFile() && entry.name.endsWith(".sh"))) continue;
      looked++;
      if (isFolder) folders.push(path);
      const strangers = strangersAt(path);
      if (strangers !== undefined) {
        return [
          fail(
            `${path} ${strangers}: others may change what clients run.`,
            `chown it to root or the user of the service, and chmod go-w ${path}`,
          ),
        ];
      }
    }
  }
  return [];
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** Files of the product inside a root, where scripts, and users who may write to it, can reach them. */
function within(root: string, { agent, keysFile, env }: Patient): Finding[] {
  const findings: Finding[] = [];
  const realRoot = realpathSync(root);
  const isLeftOut = leftOutTest([realRoot], agent.leftOut ?? NOTHING_LEFT_OUT);
  // A path that does not exist yet is where its nearest folder is.
  const isInside = (path: string) => {
    const folder = nearestFolder(path);
    const real = join(realpathSync(folder), relative(folder, path));
    return isWithin(real, realRoot) && !isLeftOut(real);
  };
  if (statOf(keysFile) && isInside(keysFile)) {
    findings.push(
      fail(
        `The keys file ${keysFile} is inside the root ${root}.`,
        "Move one of the two: a script in the root must not reach the keys.",
      ),
    );
  }
  const others = {
    HUB_STATE_DIR: agent.stateDir,
    ...(env["HUB_RECIPES_FILE"] && { HUB_RECIPES_FILE: agent.recipesFile }),
  };
  for (const [variable, path] of Object.entries(others)) {
    if (!isInside(path)) continue;
    findings.push(
      warn(
        `${path} (${variable}) is inside the root ${root}.`,
        `Set narrower roots in HUB_SCRIPT_ROOTS, or set ${variable} to a path outside.`,
      ),
    );
  }
  return findings;
}
