import type { NodeConfig } from "../node/config.ts";
import type { AgentConfig, Env } from "../../host-agent/config.ts";

/** The result of one check: `says` is a sentence, `advice` says what to do about a warning or failure. */
export interface Finding {
  status: "pass" | "warn" | "fail";
  says: string;
  advice?: string;
}

/** A finding with the name of its check. */
export interface Result extends Finding {
  name: string;
}

/** The input of the checks. `node` is undefined when the settings as a whole cannot be used. */
export interface Patient {
  env: Env;
  agent: AgentConfig;
  keysFile: string;
  node: NodeConfig | undefined;
}

/** One check of the installation. */
export interface Check {
  name: string;
  look(patient: Patient): Promise<Finding[]> | Finding[];
}

/** A finding of something that is right. */
export const pass = (says: string): Finding => ({ status: "pass", says });
/** A finding that does not stop the service. */
export const warn = (says: string, advice: string): Finding => ({ status: "warn", says, advice });
/** A finding that stops the service or breaks a promise. */
export const fail = (says: string, advice: string): Finding => ({ status: "fail", says, advice });

/** The message of a thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
