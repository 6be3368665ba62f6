import { dirname } from "node:path";

import {
  type CatalogueRecipe,
  missingForTerminal,
  missingProgram,
  readCatalogue,
} from "../../../host-agent/inspection.ts";
import { isWritable, nearestFolder, statOf, strangersAt } from "../files.ts";
import { type Check, fail, type Finding, messageOf, pass, type Patient } from "../finding.ts";

/** The catalogue, and whether each of its recipes could start now. */
export const recipes: Check = {
  name: "Recipes",
  async look(patient) {
    const path = patient.agent.recipesFile;
    let found: CatalogueRecipe[];
    try {
      found = [...readCatalogue(path).recipes.values()];
    } catch (error) {
      return [
        fail(
          `${path} cannot be used: ${messageOf(error).replaceAll("\n", " ")}.`,
          "Mend it; README.md, Recipes, has an example. Without it no recipe is served.",
        ),
      ];
    }
    const faults = (await Promise.all(found.map((recipe) => faultsOf(recipe, patient)))).flat();
    for (const place of [path, dirname(path)]) {
      const strangers = strangersAt(place);
      if (strangers === undefined) continue;
      faults.push(
        fail(
          `${place} ${strangers}: others may change what clients run.`,
          `Give it to root or the user of the service, and chmod go-w ${place}`,
        ),
      );
    }
    return faults.length > 0
      ? faults
      : [pass(`${path} has ${found.length} recipes, and each of them can start.`)];
  },
};

async function faultsOf(recipe: CatalogueRecipe, { env }: Patient): Promise<Finding[]> {
  const { recipe_id: id, cwd, log_dir: logDir, terminal } = recipe;
  const findings: Finding[] = [];
  if (!statOf(cwd)?.isDirectory()) {
    findings.push(fail(`Recipe ${id}: its folder ${cwd} is not there.`, "Make it, or mend its cwd."));
  }
  const missing = missingProgram(recipe, env);
  if (missing !== undefined) {
    findings.push(
      fail(`Recipe ${id}: ${missing}.`, "Install it, or write its absolute path into the command."),
    );
  }
  if (logDir !== undefined && !isWritable(nearestFolder(logDir))) {
    findings.push(
      fail(
        `Recipe ${id}: its logs cannot be written to ${logDir}.`,
        "Give the folder to the user of the service, or leave log_dir out.",
      ),
    );
  }
  const strangers = logDir === undefined ? undefined : strangersAt(nearestFolder(logDir));
  if (strangers !== undefined) {
    findings.push(
      fail(
        `Recipe ${id}: the folder of its logs, ${logDir}, ${strangers}: others may replace logs.`,
        "Give the folder to the user of the service and close it, or leave log_dir out.",
      ),
    );
  }
  if (terminal && (await missingForTerminal()) !== undefined) {
    findings.push(
      fail(
        `Recipe ${id}: it asks for a terminal, which this host does not have.`,
        "Install node-pty (see Node above), or take `terminal` out.",
      ),
    );
  }
  return findings;
}
