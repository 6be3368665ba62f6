import * as z from "zod";

import { INT64 } from "./integers.ts";

export const ScriptEntry = z
  .object({
    path: z.string().meta({ example: "/home/mark/scripts/my_job.sh" }),
    name: z.string().meta({ example: "my_job.sh" }),
    size: z.int().meta({ ...INT64, description: "Bytes." }),
    modified_at: z.int().meta({ ...INT64, description: "Epoch seconds." }),
  })
  .meta({ id: "Script" });
export type ScriptEntry = z.infer<typeof ScriptEntry>;

export const ScriptList = z
  .object({
    scripts: z.array(ScriptEntry),
    truncated: z.boolean().meta({ description: "True when there are more scripts than the list holds." }),
  })
  .meta({ id: "ScriptList" });
export type ScriptList = z.infer<typeof ScriptList>;

export const ScriptContent = z
  .object({
    path: z.string().meta({ description: "The real path, symbolic links resolved." }),
    content: z.string().meta({ description: "The source; bytes that are not UTF-8 become U+FFFD." }),
    size: z.int().meta({ ...INT64, description: "Bytes." }),
  })
  .meta({ id: "ScriptContent" });
export type ScriptContent = z.infer<typeof ScriptContent>;
