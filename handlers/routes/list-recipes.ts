import { RecipeList } from "../../host-agent/protocol/recipe.ts";
import { ok } from "../reply.ts";
import { defineRoute } from "../route.ts";

export const listRecipes = defineRoute({
  method: "get",
  path: "/api/v1/pipelines/recipes",
  operationId: "listRecipes",
  tag: "Pipelines",
  summary: "List recipes",
  description: "The recipes that the operator of the Hub offers.",
  scope: "pipelines:read",
  request: {},
  response: { status: 200, description: "The recipes", body: RecipeList },
  problems: [],

  async handle(_input, { agent }) {
    return ok(await agent.listRecipes());
  },
});
