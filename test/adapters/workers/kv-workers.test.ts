import { Miniflare } from "miniflare";
import { describe } from "vitest";

import { workersKV } from "../../../adapters/workers/kv-workers.ts";
import { kvContract } from "../../support/kv-contract.ts";

describe("Workers KV in workerd", () => {
  kvContract(
    async () => {
      const workerd = new Miniflare({
        modules: true,
        script: "export default { fetch: () => new Response() }",
        cf: false,
        kvNamespaces: ["KV"],
      });
      const namespace = await workerd.getKVNamespace("KV");
      return {
        kv: workersKV(namespace),
        [Symbol.asyncDispose]: () => workerd.dispose(),
      };
    },
    // Its time is workerd's own; that a time of 60 s is kept as expirationTtl is what can be seen from here.
    { movesClock: false },
  );
});
