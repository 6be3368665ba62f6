/** What a run's environment has, and no file of the operator can refer to. */
const RUN_VARIABLE = /\$\{?(?:HOME|PATH|USER|LOGNAME|SHELL|PWD|TMPDIR|HUB_RUN_ID)\b/;

/**
 * The part of a path that would be expanded by a shell, which never sees it, as words that fit behind the field's name; undefined
 * for a path that is meant as it is written. A folder whose name begins with `~` is written as `./~name`.
 */
export function unexpandedPath(path: string): string | undefined {
  const [found] = /^~[^/]*|\$\{?[A-Za-z_]\w*\}?|\{\w+\}/.exec(path) ?? [];
  return found === undefined ? undefined : `has ${found}, which is not expanded here; write the path itself`;
}

/** The same for a value of `env`, in which other dollar signs are usual. */
export function unexpandedValue(value: string): string | undefined {
  const [found] = /^~(?=\/|$)|\{run_id\}/.exec(value) ?? RUN_VARIABLE.exec(value) ?? [];
  if (found === undefined) return undefined;
  const instead = /run_id|HUB_RUN_ID/i.test(found)
    ? "the command can read $HUB_RUN_ID itself"
    : "write the value itself";
  return `has ${found.replace("${", "$")}, which is not expanded here; ${instead}`;
}
