import { missingForTerminal } from "../../../host-agent/inspection.ts";
import { type Check, fail, type Finding, pass, warn } from "../finding.ts";

/** The oldest Node that the product runs on, the same as in package.json. */
const NEEDED = [24, 16] as const;

/** Node, its libuv, and the optional node-pty. */
export const runtime: Check = {
  name: "Node",
  async look() {
    const missing = await missingForTerminal();
    return [
      ageOf(process.versions),
      missing === undefined
        ? pass("node-pty loads: terminal mode is available.")
        : warn(
            `${missing}.`,
            "Until then recipes and launches with `terminal` are refused. All others work.",
          ),
    ];
  },
};

/** Whether a Node of these versions is new enough for the service. */
export function ageOf({ node, uv }: { node: string; uv: string }): Finding {
  const [major = 0, minor = 0] = node.split(".").map(Number);
  const isOld = major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1]);
  return isOld
    ? fail(
        `Node ${node} is older than ${NEEDED.join(".")}.`,
        "Run `npm ci`: it installs a Node, which the npm scripts use.",
      )
    : pass(`Node ${node} with libuv ${uv} runs the service.`);
}
