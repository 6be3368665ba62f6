/** Why a request has no answer, in words, and whether a retry may help. */
export interface NetworkFailure {
  reason: string;
  transient: boolean;
  /** No server can have received the request. */
  isUnsent?: true;
}

const REASONS: Record<string, NetworkFailure> = {
  ECONNREFUSED: { reason: "connection refused", transient: true, isUnsent: true },
  ECONNRESET: { reason: "the connection was closed", transient: true },
  UND_ERR_SOCKET: { reason: "the connection was closed", transient: true },
  EPIPE: { reason: "the connection was closed", transient: true },
  ETIMEDOUT: { reason: "timeout", transient: true },
  UND_ERR_CONNECT_TIMEOUT: { reason: "timeout", transient: true, isUnsent: true },
  UND_ERR_HEADERS_TIMEOUT: { reason: "timeout", transient: true },
  UND_ERR_BODY_TIMEOUT: { reason: "timeout", transient: true },
  EHOSTUNREACH: { reason: "no route to this host", transient: true, isUnsent: true },
  ENETUNREACH: { reason: "the network is unreachable", transient: true, isUnsent: true },
  EAI_AGAIN: { reason: "DNS lookup failed temporarily", transient: true, isUnsent: true },
  ENOTFOUND: { reason: "this host name does not exist", transient: false, isUnsent: true },
  ERR_SSL_WRONG_VERSION_NUMBER: {
    reason: "the server does not use TLS. Try http:// instead of https://",
    transient: false,
    isUnsent: true,
  },
  ERR_SSL_PACKET_LENGTH_TOO_LONG: {
    reason: "the server does not use TLS. Try http:// instead of https://",
    transient: false,
    isUnsent: true,
  },
};

/** The certificate errors of OpenSSL as Node names them. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|^ERR_TLS_/;

/** Reads what fetch rejected with; undefined for an error that is not one of the network. */
export function networkFailure(error: unknown): NetworkFailure | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return { reason: "timeout", transient: true };
  if (error.cause instanceof Error && error.cause.message === "bad port") {
    return { reason: "HTTP clients block this port", transient: false, isUnsent: true };
  }
  for (const code of codes(error)) {
    const known = REASONS[code];
    if (known) return known;
    if (CERTIFICATE.test(code)) {
      const reason = `the TLS certificate is not trusted (${code}). For your own CA, set NODE_EXTRA_CA_CERTS to its file`;
      return { reason, transient: false, isUnsent: true };
    }
    if (code.startsWith("ERR_SSL_")) return { reason: `TLS failed (${code})`, transient: false };
    if (code.startsWith("HPE_"))
      return {
        reason: "the server does not use plain HTTP. Try https:// instead of http://",
        transient: false,
      };
  }
  return error instanceof TypeError ? { reason: "the connection failed", transient: true } : undefined;
}

/** The codes of an error, its causes, and those of the several addresses that a name may have. */
function codes(error: Error): string[] {
  const { code, cause, errors } = error as Error & { code?: unknown; errors?: unknown };
  const inner = [cause, ...(Array.isArray(errors) ? errors : [])].filter((one) => one instanceof Error);
  return [...(typeof code === "string" ? [code] : []), ...inner.flatMap(codes)];
}
