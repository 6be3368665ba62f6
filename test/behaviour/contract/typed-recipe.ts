/** Prints its words as lines between angle brackets. */
export const ARGV = ["/bin/sh", "-c", String.raw`printf '<%s>\n' "$@"`, "argv"];
/** A recipe with a parameter of each type, which prints the arguments that its command received. */
export const TYPED = {
  recipe_id: "typed",
  title: "Typed",
  description: "Takes parameters",
  command: ARGV,
  max_running: 1,
  timeout_seconds: 60,
  args_help: "any words\nare printed",
  params: [
    { name: "limit", type: "integer", minimum: 1, maximum: 10_000, description: "How many" },
    { name: "ratio", flag: "-r", type: "number" },
    { name: "mode", type: "enum", enum: ["fast", "full"], default: "fast" },
    { name: "name", type: "string", pattern: "[a-z-]+" },
    { name: "text", type: "string" },
    { name: "force", type: "boolean" },
  ],
};
