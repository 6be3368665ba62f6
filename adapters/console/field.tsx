import type { ComponentChildren, JSX } from "preact";

import { spelledOut } from "./visible-text.ts";

interface FieldProps {
  id: string;
  label: ComponentChildren;
  /** Next to the label, but not part of it for screen readers. */
  aside?: ComponentChildren;
  isRequired?: boolean;
  isCheckbox?: boolean;
  /** Which values are valid. */
  help?: ComponentChildren;
  /** What the API reports as wrong with the value. */
  fault: string | undefined;
  /** Draws the control with the attributes that connect it to its label, help and fault. */
  control(attributes: ControlAttributes): JSX.Element;
}

/** What connects a control to its label, help and fault. */
export interface ControlAttributes {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean;
}

/** A form's control with its label, its help and its fault. */
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
