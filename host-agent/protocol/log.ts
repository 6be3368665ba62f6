/** The headers that describe a page of a log; the body is the page's bytes. */
export const LOG_HEADERS = {
  offset: "hub-log-offset",
  size: "hub-log-size",
  more: "hub-log-more",
} as const;

export const DEFAULT_LOG_PAGE_BYTES = 4_096;
export const MAX_LOG_WAIT_SECONDS = 30;
