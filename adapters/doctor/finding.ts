import type { NodeConfig } from "../node/config.ts";
import type { AgentConfig, Env } from "../../host-agent/config.ts";

/** One thing that was looked at: `says` is a sentence, `advice` what to do when it is not well. */
export interface Finding {
  status: "pass" | "warn" | "fail";
  says: string;
  advice?: string;
}

/** A finding under the name of what was looked at. */
export interface Result extends Finding {
  name: string;
}

/** What the checks look at. `node` is undefined when the settings as a whole cannot be used. */
export interface Patient {
  env: Env;
  agent: AgentConfig;
  keysFile: string;
  node: NodeConfig | undefined;
}

/** One question about the installation, and its answers. */
export interface Check {
  name: string;
  look(patient: Patient): Promise<Finding[]> | Finding[];
}

export const pass = (says: string): Finding => ({ status: "pass", says });
export const warn = (says: string, advice: string): Finding => ({ status: "warn", says, advice });
export const fail = (says: string, advice: string): Finding => ({ status: "fail", says, advice });

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
