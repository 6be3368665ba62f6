import { hash } from "node:crypto";

import { parseSync, visitorKeys } from "oxc-parser";

/** One small break of a file: the text between two offsets, and what replaces it. */
export interface Mutant {
  start: number;
  end: number;
  /** Counted from 1. */
  line: number;
  before: string;
  after: string;
}

/** A node of the syntax tree (ESTree, and TypeScript's own nodes). */
interface Node extends Record<string, unknown> {
  type: string;
  start: number;
  end: number;
}

const OPERATORS: Record<string, string> = {
  "===": "!==",
  "!==": "===",
  "<": "<=",
  "<=": "<",
  ">": ">=",
  ">=": ">",
  "+": "-",
  "-": "+",
  "*": "/",
  "/": "*",
  "%": "*",
  "&": "|",
  "|": "&",
};
const LOGICAL: Record<string, string[]> = { "&&": ["||"], "||": ["&&", "??"], "??": ["||"] };
const CALLS: Record<string, string> = { min: "max", max: "min", some: "every", every: "some" };
/** These have an expression in a type's company; all other nodes of TypeScript are types. */
const WITH_EXPRESSION = new Set(["TSAsExpression", "TSNonNullExpression", "TSSatisfiesExpression"]);
const BRANCHES = new Set(["IfStatement", "ConditionalExpression"]);
const LOOPS = new Set(["WhileStatement", "DoWhileStatement", "ForStatement"]);

/** Every small break of a TypeScript source that still parses, in the order of the text. Throws for a source that does not. */
export function mutantsOf(source: string, name: string): Mutant[] {
  const { program, errors } = parseSync(name, source);
  if (errors.length > 0) throw new Error(`${name} cannot be parsed: ${errors[0]!.message}`);
  const found: Mutant[] = [];
  const text = (node: Node) => source.slice(node.start, node.end);
  walk(program as unknown as Node, [], (node, above) => {
    for (const [{ start, end }, after] of breaksOf(node, above, text)) {
      const line = source.slice(0, start).split("\n").length;
      found.push({ start, end, line, before: source.slice(start, end), after });
    }
  });
  return found
    .filter((mutant) => parseSync(name, applied(source, mutant)).errors.length === 0)
    .toSorted((a, b) => a.start - b.start || a.end - b.end);
}

/** The source with one break in it. */
export function applied(source: string, { start, end, after }: Mutant): string {
  return source.slice(0, start) + after + source.slice(end);
}

/** At most `max` of them, in their order. The same seed takes the same ones. */
export function sampleOf(mutants: readonly Mutant[], max: number, seed: number): Mutant[] {
  const place = (index: number) => hash("sha256", `${seed} ${index}`);
  const taken = new Set(
    mutants
      .map((_, index) => index)
      .toSorted((a, b) => (place(a) < place(b) ? -1 : 1))
      .slice(0, max),
  );
  return mutants.filter((_, index) => taken.has(index));
}

/** Gets a node and those that it is in, the nearest first. */
type Visit = (node: Node, above: readonly Node[]) => void;

function walk(node: Node, above: readonly Node[], visit: Visit): void {
  const isTypeOnly = node.type.startsWith("TS") && !WITH_EXPRESSION.has(node.type);
  if (isTypeOnly || node.type.startsWith("Import")) return;
  visit(node, above);
  const keys = WITH_EXPRESSION.has(node.type) ? ["expression"] : (visitorKeys[node.type] ?? []);
  for (const key of keys) {
    // The name of a property is no value.
    if (key === "key" && node["computed"] !== true) continue;
    for (const child of [node[key]].flat() as (Node | null | undefined)[]) {
      if (child) walk(child, [node, ...above], visit);
    }
  }
}

type Break = [where: Pick<Node, "start" | "end">, after: string];
type Text = (node: Node) => string;

function breaksOf(node: Node, above: readonly Node[], text: Text): Break[] {
  const { type } = node;
  if (BRANCHES.has(type)) return conditionsOf(node["test"] as Node, text);
  if (LOOPS.has(type)) return node["test"] ? [[node["test"] as Node, "false"]] : [];
  if (type === "BinaryExpression" || type === "LogicalExpression") return operatorsOf(node, text);
  if (type === "UnaryExpression" && node["operator"] === "!") {
    return [[node, text(node["argument"] as Node)]];
  }
  if (type === "Literal" || type === "TemplateLiteral") return literalsOf(node, above[0]);
  if (type === "CallExpression") return otherCallOf(node["callee"] as Node);
  if (type === "AwaitExpression") return [[node, text(node["argument"] as Node)]];
  return isRemovable(node, above, text) ? [[node, ";"]] : [];
}

function conditionsOf(test: Node, text: Text): Break[] {
  return [
    [test, "true"],
    [test, "false"],
    [test, `!(${text(test)})`],
  ];
}

function operatorsOf(node: Node, text: Text): Break[] {
  const operator = String(node["operator"]);
  const others = node.type === "LogicalExpression" ? LOGICAL[operator] : [OPERATORS[operator] ?? []].flat();
  const [left, right] = [text(node["left"] as Node), text(node["right"] as Node)];
  // With `||` it is the same, for each left side that is a boolean or undefined.
  if (operator === "??" && right === "false") return [];
  return (others ?? []).map((other) => [node, `(${left} ${other} ${right})`]);
}

function literalsOf(node: Node, parent: Node | undefined): Break[] {
  if (node.type === "TemplateLiteral") {
    return parent?.type === "TaggedTemplateExpression" ? [] : [[node, "``"]];
  }
  const { value } = node;
  if (typeof value === "boolean") return [[node, String(!value)]];
  if (typeof value === "string") return value === "" || isDirective(parent) ? [] : [[node, '""']];
  if (typeof value !== "number") return [];
  return [value + 1, value - 1].map((other) => [node, other < 0 ? `(${other})` : String(other)]);
}

function isDirective(parent: Node | undefined): boolean {
  return parent !== undefined && typeof parent["directive"] === "string";
}

/** Another method with the same arguments: Math.max for Math.min, some() for every(). */
function otherCallOf(callee: Node): Break[] {
  const property = callee["property"] as Node | undefined;
  const other = CALLS[String(property?.["name"])];
  return property && other ? [[property, other]] : [];
}

/** A statement whose effect is all that it is for: a call, an assignment, a throw, or a return that comes early. */
function isRemovable(node: Node, above: readonly Node[], text: Text): boolean {
  if (node.type === "ThrowStatement") return true;
  if (node.type === "ReturnStatement") return isEarly(node, above) && !/\bawait\b/.test(text(node));
  if (node.type !== "ExpressionStatement") return false;
  const expression = node["expression"] as Node;
  const inner = expression.type === "AwaitExpression" ? (expression["argument"] as Node) : expression;
  return ["CallExpression", "AssignmentExpression", "UpdateExpression"].includes(inner.type);
}

/** Not the last statement of a function. */
function isEarly(node: Node, [parent, grandparent]: readonly Node[]): boolean {
  const isOfFunction = parent?.type === "BlockStatement" && grandparent?.type.includes("Function") === true;
  return !isOfFunction || (parent["body"] as Node[]).at(-1) !== node;
}
