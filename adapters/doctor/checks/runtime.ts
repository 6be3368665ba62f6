import { missingForTerminal } from "../../../host-agent/inspection.ts";
import { type Check, fail, type Finding, pass, warn } from "../finding.ts";

/** The oldest Node that the product runs on, as package.json has it. */
const NEEDED = [24, 16] as const;

/** Node, its libuv, and the optional node-pty. */
export const runtime: Check = {
  name: "Node",
  async look() {
    const missing = await missingForTerminal();
    return [
      ageOf(process.versions),
      missing === undefined
        ? pass("node-pty loads: terminal mode is there.")
        : warn(
            `${missing}.`,
            "Recipes and launches with `terminal` are refused until then; all others work.",
          ),
    ];
  },
};

/** Whether a Node of these versions is young enough for the service. */
export function ageOf({ node, uv }: { node: string; uv: string }): Finding {
  const [major = 0, minor = 0] = node.split(".").map(Number);
  const isOld = major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1]);
  return isOld
    ? fail(
        `Node ${node} is older than ${NEEDED.join(".")}.`,
        "Run `npm ci`: it brings its own Node, and the npm scripts use that one.",
      )
    : pass(`Node ${node} with libuv ${uv} runs the service.`);
}
