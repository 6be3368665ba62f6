import { readAgentConfig, type Env } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { within } from "../../host-agent/protocol/within.ts";
import { readKeysFilePath, readNodeConfig, type NodeConfig } from "../node/config.ts";
import { AGENT_CHECKS, CHECKS } from "./checks.ts";
import { fail, type Finding, messageOf, pass, type Patient, type Result, warn } from "./finding.ts";
import { runTrials } from "./trials.ts";

const CHECK_TIMEOUT_MS = 8_000;

/**
 * Checks the installation that this environment describes. With `trials` it also
 * tries the service out in a scratch folder. Changes nothing; takes less than half a
 * minute.
 */
export async function examine(env: Env, { trials }: { trials: boolean }): Promise<Result[]> {
  const { findings, patient } = readSettings(env);
  const results: Result[] = findings.map((finding) => ({ name: "Settings", ...finding }));
  if (patient) {
    const isRemote = patient.node?.remoteAgent !== undefined;
    const checks = isRemote ? CHECKS : [...CHECKS, ...AGENT_CHECKS];
    // All at once, because most of their time is waiting.
    const found = await Promise.all(checks.map(({ look }) => bounded(async () => look(patient))));
    for (const [index, { name }] of checks.entries()) {
      results.push(...found[index]!.map((finding) => ({ name, ...finding })));
    }
    if (isRemote) {
      const says = "The state folder, script roots and recipes are on the agent's host.";
      results.push({ name: "Agent's host", ...pass(`${says} Run the doctor there as well.`) });
    }
  }
  if (trials) results.push(...(await runTrials()));
  return results;
}

function readSettings(env: Env): { findings: Finding[]; patient?: Patient } {
  const advice = "All settings are in docs/configuration.md.";
  try {
    const node = readNodeConfig(env);
    const patient = { env, agent: node.agent, keysFile: node.keysFile, node };
    return { findings: [pass("All settings can be read.")], patient };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const findings = [fail(`${error.message.replaceAll("\n", "; ")}.`, advice)];
    const node: NodeConfig | undefined = undefined;
    try {
      return {
        findings,
        patient: { env, agent: readAgentConfig(env), keysFile: readKeysFilePath(env), node },
      };
    } catch {
      return { findings: [...findings, warn("Nothing else was checked.", "Fix the settings first.")] };
    }
  }
}

/** The findings of a check. A check that throws or takes too long has failed; the others continue. */
async function bounded(look: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await within(CHECK_TIMEOUT_MS, look, tooSlow);
  } catch (error) {
    return [
      fail(
        `The check failed: ${messageOf(error)}.`,
        "Check whether the file system, or the host behind it, hangs.",
      ),
    ];
  }
}

function tooSlow(): Error {
  return new Error(`no result in ${CHECK_TIMEOUT_MS / 1000} s`);
}
