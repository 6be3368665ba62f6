/** What HUB_PUBLIC_URL must be, for the message about another value. */
export const PUBLIC_URL_RULE = "must be the address that clients use, such as https://example.com/hub";

/** The address that clients use for the API, without a slash at its end; undefined for a text that cannot be one. */
export function parsePublicUrl(text: string): string | undefined {
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search || url.hash) {
    return undefined;
  }
  return (url.origin + url.pathname).replace(/\/+$/, "");
}
