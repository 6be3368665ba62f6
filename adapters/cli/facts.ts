/** Names and values as lines, the values in one column; a fact without a value is left out. Values are printable already. */
export function factLines(facts: readonly [name: string, value: string | null | undefined][]): string {
  const known = facts.filter(([, value]) => value !== null && value !== undefined);
  return known.map(([name, value]) => `${name.padEnd(10)} ${value}\n`).join("");
}
