/** The shells that a completion script exists for. */
export const SHELLS = ["bash", "zsh", "fish"];

/** Names of arguments whose values completion asks the Hub for. */
export const RUN = "run";
export const RECIPE = "recipe";
export const SCRIPT = "path";
