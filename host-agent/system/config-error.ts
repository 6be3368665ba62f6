/** A wrong setting: the message names the variable, its value and what it should be. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}
