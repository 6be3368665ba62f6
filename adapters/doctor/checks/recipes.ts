import { dirname } from "node:path";

import {
  type CatalogueRecipe,
  missingForTerminal,
  missingProgram,
  readCatalogue,
} from "../../../host-agent/inspection.ts";
import { SHIPPED_RECIPES } from "../../../host-agent/config.ts";
import { isWritable, nearestFolder, statOf, strangersAt } from "../files.ts";
import { type Check, fail, type Finding, messageOf, pass, type Patient, warn } from "../finding.ts";

/** The recipes file, and whether each recipe could start now. */
export const recipes: Check = {
  name: "Recipes",
  look: async (patient) => lookAtRecipes(patient, await missingForTerminal()),
};

/** The findings about the recipes file; `missing` is what terminal mode lacks on this host, if anything. */
export async function lookAtRecipes(patient: Patient, missing: string | undefined): Promise<Finding[]> {
  const path = patient.agent.recipesFile;
  let found: CatalogueRecipe[];
  let wrong: Finding[];
  try {
    const catalogue = readCatalogue(path);
    found = [...catalogue.recipes.values()];
    wrong = catalogue.faults.map(({ message }) =>
      fail(
        `${path}: ${message}.`,
        "Correct it: this recipe cannot be launched. `npm run recipes -- check` lists what is wrong.",
      ),
    );
  } catch (error) {
    return [
      fail(
        `${path} cannot be used: ${messageOf(error).replaceAll("\n", " ")}.`,
        "Fix it. README.md has an example under Recipes. Without it no recipe is served.",
      ),
    ];
  }
  const faults = [
    ...wrong,
    ...(await Promise.all(found.map((recipe) => faultsOf(recipe, patient, missing)))).flat(),
  ];
  for (const place of [path, dirname(path)]) {
    const strangers = strangersAt(place);
    if (strangers === undefined) continue;
    faults.push(
      fail(
        `${place} ${strangers}: others may change what clients run.`,
        `chown it to root or the user of the service, and chmod go-w ${place}`,
      ),
    );
  }
  return faults.length > 0
    ? faults
    : [
        pass(
          `${path} has ${found.length} ${found.length === 1 ? "recipe" : "recipes"}. All programs, folders and log folders were found.`,
        ),
      ];
}

async function faultsOf(
  recipe: CatalogueRecipe,
  { env, agent }: Patient,
  missingTerminal: string | undefined,
): Promise<Finding[]> {
  const isSample = agent.recipesFile === SHIPPED_RECIPES;
  const { recipe_id: id, cwd, log_dir: logDir, terminal } = recipe;
  const findings: Finding[] = [];
  if (!statOf(cwd)?.isDirectory()) {
    findings.push(
      fail(`Recipe ${id}: its folder ${cwd} does not exist.`, "Create it, or correct the recipe's cwd."),
    );
  }
  const missing = missingProgram(recipe, env);
  if (missing !== undefined) {
    findings.push(fail(`Recipe ${id}: ${missing}.`, "Install it, or use its absolute path in the command."));
  }
  if (logDir !== undefined && !isWritable(nearestFolder(logDir))) {
    findings.push(
      fail(
        `Recipe ${id}: its logs cannot be written to ${logDir}.`,
        "chown the folder to the user of the service, or remove log_dir.",
      ),
    );
  }
  const strangers = logDir === undefined ? undefined : strangersAt(nearestFolder(logDir));
  if (strangers !== undefined) {
    findings.push(
      fail(
        `Recipe ${id}: the folder of its logs, ${logDir}, ${strangers}: others may replace logs.`,
        "chown the folder to the user of the service and chmod go-w it, or remove log_dir.",
      ),
    );
  }
  if (terminal && missingTerminal !== undefined) {
    findings.push(
      // A sample must not make an installation unfit that nobody has set up yet.
      (isSample ? warn : fail)(
        `Recipe ${id}: it needs terminal mode, which this host does not have.`,
        "Build node-pty (see Node above), or remove `terminal`.",
      ),
    );
  }
  return findings;
}
