import type { Fetch } from "../../handlers/agent-transport.ts";
import type { Assets } from "../../handlers/pages.ts";

/** The built files behind a Workers assets binding, which compresses them itself. */
export function bindingAssets(binding: { fetch: Fetch }): Assets {
  return async (name) => {
    const response = await binding.fetch(new Request(`https://assets.local/${name}`));
    return response.ok ? { bytes: new Uint8Array(await response.arrayBuffer()) } : undefined;
  };
}
