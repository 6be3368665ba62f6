/** The address of the Hub that serves this page, without a slash at its end. A proxy may have put a path in front of it. */
export const BASE = new URL(".", location.href).href.replace(/\/$/, "");
