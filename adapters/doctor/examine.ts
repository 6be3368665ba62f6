import { readAgentConfig, type Env } from "../../host-agent/config.ts";
import { ConfigError } from "../../host-agent/system/config-error.ts";
import { within } from "../../host-agent/protocol/within.ts";
import { readKeysFilePath, readNodeConfig, type NodeConfig } from "../node/config.ts";
import { AGENT_CHECKS, CHECKS } from "./checks.ts";
import { fail, type Finding, messageOf, pass, type Patient, type Result, warn } from "./finding.ts";
import { runTrials } from "./trials.ts";

const CHECK_TIMEOUT_MS = 8_000;

/**
 * Looks at the installation that this environment describes and, unless told
 * not to, tries the service out in a scratch folder. Changes nothing; takes well
 * under half a minute.
 */
export async function examine(env: Env, { trials }: { trials: boolean }): Promise<Result[]> {
  const { findings, patient } = readSettings(env);
  const results: Result[] = findings.map((finding) => ({ name: "Settings", ...finding }));
  if (patient) {
    const isRemote = patient.node?.remoteAgent !== undefined;
    const checks = isRemote ? CHECKS : [...CHECKS, ...AGENT_CHECKS];
    // All at once: most of the time they wait.
    const found = await Promise.all(checks.map(({ look }) => bounded(async () => look(patient))));
    for (const [index, { name }] of checks.entries()) {
      results.push(...found[index]!.map((finding) => ({ name, ...finding })));
    }
    if (isRemote) {
      const says = "State, roots and recipes are on the agent's host.";
      results.push({ name: "Agent's host", ...pass(`${says} Run the doctor there, too.`) });
    }
  }
  if (trials) results.push(...(await runTrials()));
  return results;
}

function readSettings(env: Env): { findings: Finding[]; patient?: Patient } {
  const advice = "docs/configuration.md has all of them.";
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
      return { findings: [...findings, warn("Nothing else was looked at.", "Mend the settings first.")] };
    }
  }
}

/** The findings of a check. One that throws or takes too long has failed; the others go on. */
async function bounded(look: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await within(CHECK_TIMEOUT_MS, look, tooSlow);
  } catch (error) {
    return [
      fail(
        `This could not be looked at: ${messageOf(error)}.`,
        "Is the file system or the host behind it stuck?",
      ),
    ];
  }
}

function tooSlow(): Error {
  return new Error(`no answer in ${CHECK_TIMEOUT_MS / 1000} s`);
}
