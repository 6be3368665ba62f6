// Formats of whole numbers for generated clients, which take 32 bits for a number without one.

/** For bytes, times and all else that can pass 2^31: a log has more bytes than that, and epoch seconds will in 2038. */
export const INT64 = { format: "int64" } as const;
/** For what is known to stay below 2^31. */
export const INT32 = { format: "int32" } as const;
