import { useMemo, useState } from "preact/hooks";

import type { Recipe } from "../../host-agent/protocol/recipe.ts";
import { readCatalogue } from "../client/catalogue.ts";
import { duration } from "../client/units.ts";
import { type Api, isOutage } from "./api.ts";
import { useLoaded, useTitle } from "./hooks.ts";
import { LaunchForm } from "./launch-form.tsx";
import { href } from "./location.ts";
import { Notice, PollFailure } from "./notice.tsx";
import type { RunsFeed } from "./runs-feed.ts";
import { spelledOut } from "./visible-text.ts";

/** The recipes, and the form of the chosen one. */
export function LaunchPage({
  api,
  feed,
  recipeId,
}: {
  api: Api;
  feed: RunsFeed;
  recipeId: string | undefined;
}) {
  useTitle("Launch");
  const { value, error, again } = useLoaded(() => readCatalogue(api), "recipes");
  const [words, setWords] = useState("");
  const found = useMemo(() => {
    const wanted = words.toLowerCase();
    return value?.recipes.filter(({ recipe_id, title, description }) =>
      `${recipe_id} ${title} ${description}`.toLowerCase().includes(wanted),
    );
  }, [value, words]);
  const chosen = value?.recipes.find((recipe) => recipe.recipe_id === recipeId);

  return (
    <main id="main" class={`page split${recipeId === undefined ? "" : " chosen"}`} tabIndex={-1}>
      <section class="choices" aria-label="Recipes">
        <div class="choices-head">
          <h1>Launch a recipe</h1>
          <input
            type="search"
            placeholder="Search recipes"
            aria-label="Search the recipes"
            value={words}
            onInput={({ currentTarget }) => setWords(currentTarget.value)}
          />
        </div>
        {error && <PollFailure error={error} onRetry={again} />}
        {!value && (!error || isOutage(error)) && <p class="loading">Reading the recipes …</p>}
        {value && value.problems.length > 0 && (
          <Notice kind="problem" title="The list of recipes is broken">
            {value.problems.map((problem) => (
              <p key={problem}>The Hub reports: {spelledOut(problem)}.</p>
            ))}
            <p>Ask the operator of the Hub.</p>
          </Notice>
        )}
        {value?.recipes.length === 0 && value.problems.length === 0 && (
          <Notice kind="empty" title="No recipes">
            <p>
              The operator adds recipes to the recipes file. <a href={href(["scripts"])}>Scripts</a> can be
              launched too.
            </p>
          </Notice>
        )}
        {found?.length === 0 && words !== "" && <p class="loading">No recipe matches.</p>}
        <ul class="cards">
          {found?.map((recipe) => (
            <li key={recipe.recipe_id}>
              <a
                href={href(["launch", recipe.recipe_id])}
                aria-current={recipe.recipe_id === recipeId ? "true" : undefined}
              >
                <strong>
                  <bdi>{spelledOut(recipe.title)}</bdi>
                </strong>
                <code>{recipe.recipe_id}</code>
                <span class="text">{spelledOut(recipe.description)}</span>
              </a>
            </li>
          ))}
        </ul>
      </section>
      <section class="chosen-panel" aria-label="The chosen recipe">
        {chosen && <ChosenRecipe key={chosen.recipe_id} api={api} feed={feed} recipe={chosen} />}
        {value && recipeId !== undefined && !chosen && (
          <Notice kind="problem" title="Unknown recipe">
            <p>
              <code>{recipeId}</code> is not in the list. The operator may have renamed it.
            </p>
          </Notice>
        )}
        {recipeId === undefined && value && value.recipes.length > 0 && (
          <p class="loading">Choose a recipe to see its parameters.</p>
        )}
      </section>
    </main>
  );
}

function ChosenRecipe({ api, feed, recipe }: { api: Api; feed: RunsFeed; recipe: Recipe }) {
  const limits = [
    recipe.timeout_seconds !== null && `stopped after ${duration(recipe.timeout_seconds)}`,
    recipe.max_running !== null && `at most ${recipe.max_running} at once`,
  ].filter(Boolean);
  return (
    <>
      <a class="back" href={href(["launch"])}>
        ‹ Recipes
      </a>
      <h2>
        <bdi>{spelledOut(recipe.title)}</bdi>
      </h2>
      <p>
        <code>{recipe.recipe_id}</code>
      </p>
      <p class="text">{spelledOut(recipe.description)}</p>
      {limits.length > 0 && <p class="note">Runs are {limits.join(", ")}.</p>}
      <LaunchForm
        api={api}
        feed={feed}
        source="pipeline"
        target={{ recipe_id: recipe.recipe_id }}
        terminal={recipe.terminal}
        argsHelp={recipe.args_help}
        params={recipe.params}
      />
    </>
  );
}
