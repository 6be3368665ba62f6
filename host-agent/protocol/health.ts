import * as z from "zod";

export const AgentHealth = z.object({
  status: z.enum(["ok", "degraded"]),
  problems: z.array(z.string()),
  running: z.int(),
});
export type AgentHealth = z.infer<typeof AgentHealth>;
