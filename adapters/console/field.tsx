import type { ComponentChildren, JSX } from "preact";

import { spelledOut } from "./visible-text.ts";

interface FieldProps {
  id: string;
  label: ComponentChildren;
  /** Stands beside the label, and is not read as part of it. */
  aside?: ComponentChildren;
  isRequired?: boolean;
  isCheckbox?: boolean;
  /** What may stand in the field. */
  help?: ComponentChildren;
  /** What the API said is wrong with it. */
  fault: string | undefined;
  /** Draws the control with the attributes that tie it to its label, help and fault. */
  control(attributes: ControlAttributes): JSX.Element;
}

export interface ControlAttributes {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean;
}

/** A form's control with its label, its help and what is wrong with it. */
export function Field({ id, label, aside, isRequired, isCheckbox, help, fault, control }: FieldProps) {
  const describing = [fault !== undefined && `${id}-fault`, help && `${id}-help`].filter(Boolean);
  return (
    <div class={isCheckbox ? "field tick" : "field"}>
      <div class="field-name">
        <label for={id}>{label}</label>
        {isRequired && <span class="note">required</span>}
        {aside}
      </div>
      {control({
        id,
        "aria-describedby": describing.length > 0 ? describing.join(" ") : undefined,
        "aria-invalid": fault !== undefined,
      })}
      {fault !== undefined && (
        <p id={`${id}-fault`} class="fault">
          {spelledOut(fault)}
        </p>
      )}
      {help && (
        <div id={`${id}-help`} class="note">
          {help}
        </div>
      )}
    </div>
  );
}
