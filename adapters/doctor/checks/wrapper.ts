import { obstacleToHelper } from "../../../host-agent/inspection.ts";
import { type Check, fail, pass } from "../finding.ts";

/** Which wrapper runs start under (HUB_WRAPPER). */
export const wrapper: Check = {
  name: "Wrapper",
  async look({ agent }) {
    if (agent.wrapper === "sh") return [pass("Runs start under the shell's wrapper (HUB_WRAPPER=sh).")];
    const obstacle = obstacleToHelper();
    if (obstacle === undefined) return [pass("Runs start under the compiled wrapper.")];
    if (agent.wrapper === "helper") {
      return [
        fail(`The compiled wrapper cannot be used: ${obstacle}.`, "Build it, or set HUB_WRAPPER=auto."),
      ];
    }
    return [pass(`Runs start under the shell's wrapper, which takes more time for a start: ${obstacle}.`)];
  },
};
