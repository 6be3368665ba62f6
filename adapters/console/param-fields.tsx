import type { Param, ParamValue } from "../../host-agent/protocol/recipe.ts";
import { type ControlAttributes, Field } from "./field.tsx";
import { spelledOut } from "./visible-text.ts";

/** What was typed, chosen or checked, by parameter. A Map, because a parameter may be called `constructor`. */
export type TypedParams = ReadonlyMap<string, string | boolean>;

interface ParamFieldsProps {
  params: readonly Param[];
  typed: TypedParams;
  faultOf(path: string): string | undefined;
  onChange(name: string, value: string | boolean): void;
}

/** A field for each parameter of a recipe, according to its type. */
export function ParamFields({ params, typed, faultOf, onChange }: ParamFieldsProps) {
  return (
    <>
      {params.map((param) => (
        <Field
          key={param.name}
          id={`param-${param.name}`}
          label={param.name}
          aside={<code class="note">{param.flag}</code>}
          isRequired={param.required}
          isCheckbox={param.type === "boolean"}
          help={helpOf(param)}
          fault={faultOf(`body.params.${param.name}`)}
          control={(attributes) => (
            <Control
              param={param}
              typed={typed}
              attributes={attributes}
              onChange={(value) => onChange(param.name, value)}
            />
          )}
        />
      ))}
    </>
  );
}

interface ControlProps {
  param: Param;
  typed: TypedParams;
  attributes: ControlAttributes;
  onChange(value: string | boolean): void;
}

function Control({ param, typed, attributes, onChange }: ControlProps) {
  if (param.type === "boolean") {
    return (
      <input
        {...attributes}
        type="checkbox"
        checked={isTicked(param, typed)}
        onChange={({ currentTarget }) => onChange(currentTarget.checked)}
      />
    );
  }
  const value = textOf(param, typed);
  if (param.type === "enum") {
    return (
      <select
        {...attributes}
        required={param.required}
        value={value}
        onChange={({ currentTarget }) => onChange(currentTarget.value)}
      >
        <option value="">{withoutChoice(param)}</option>
        {param.enum?.map((one) => (
          <option key={one} value={one}>
            {spelledOut(one)}
          </option>
        ))}
      </select>
    );
  }
  // The browser refuses what is not a number, which would otherwise be read as empty and omitted.
  const kind =
    param.type === "string"
      ? ({ type: "text" } as const)
      : ({
          type: "number",
          step: param.type === "integer" ? "1" : "any",
          min: leastOf(param),
          max: param.maximum,
        } as const);
  return (
    <input
      {...attributes}
      {...kind}
      class="mono"
      required={param.required}
      value={value}
      placeholder={param.default === undefined ? undefined : spelledOut(String(param.default))}
      spellcheck={false}
      autocomplete="off"
      onInput={({ currentTarget }) => onChange(currentTarget.value)}
    />
  );
}

/** The values as the API takes them; empty fields, and check boxes in their default state, are omitted. */
export function paramValues(params: readonly Param[], typed: TypedParams): Record<string, ParamValue> {
  return Object.fromEntries(
    params.flatMap((param): [string, ParamValue][] => {
      if (param.type === "boolean") {
        const isGiven = param.required || isTicked(param, typed) !== (param.default === true);
        return isGiven ? [[param.name, isTicked(param, typed)]] : [];
      }
      const text = textOf(param, typed);
      if (text === "") return [];
      return [[param.name, param.type === "integer" || param.type === "number" ? Number(text) : text]];
    }),
  );
}

function isTicked({ name, default: standard }: Param, typed: TypedParams): boolean {
  return (typed.get(name) ?? standard) === true;
}

function textOf({ name }: Param, typed: TypedParams): string {
  return String(typed.get(name) ?? "");
}

/** A number field counts its steps from its minimum, so that of an integer has to be whole. */
function leastOf({ type, minimum }: Param): number | undefined {
  return type === "integer" && minimum !== undefined ? Math.ceil(minimum) : minimum;
}

function withoutChoice({ required, default: standard }: Param): string {
  if (required) return "Choose …";
  return standard === undefined ? "none" : `${spelledOut(String(standard))} (the default)`;
}

function helpOf({ description, minimum, maximum, pattern }: Param): string {
  const bounds = [
    minimum !== undefined && `at least ${minimum}`,
    maximum !== undefined && `at most ${maximum}`,
  ];
  const rules = [...bounds, pattern !== undefined && `matching ${spelledOut(pattern)}`].filter(Boolean);
  const rule = rules.length > 0 ? `(${rules.join(", ")})` : "";
  return [description !== undefined && spelledOut(description), rule].filter(Boolean).join(" ");
}
