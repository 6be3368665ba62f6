/** Why a request got no answer, in words, and whether asking again may help. */
export interface NetworkFailure {
  reason: string;
  transient: boolean;
  /** No server can have seen the request. */
  isUnsent?: true;
}

const REASONS: Record<string, NetworkFailure> = {
  ECONNREFUSED: { reason: "nothing listens there", transient: true, isUnsent: true },
  ECONNRESET: { reason: "the connection was cut", transient: true },
  UND_ERR_SOCKET: { reason: "the connection was cut", transient: true },
  EPIPE: { reason: "the connection was cut", transient: true },
  ETIMEDOUT: { reason: "it took too long to answer", transient: true },
  UND_ERR_CONNECT_TIMEOUT: { reason: "it took too long to answer", transient: true },
  UND_ERR_HEADERS_TIMEOUT: { reason: "it took too long to answer", transient: true },
  UND_ERR_BODY_TIMEOUT: { reason: "it took too long to answer", transient: true },
  EHOSTUNREACH: { reason: "there is no way to that host", transient: true, isUnsent: true },
  ENETUNREACH: { reason: "there is no network", transient: true, isUnsent: true },
  EAI_AGAIN: { reason: "its name cannot be looked up now", transient: true, isUnsent: true },
  ENOTFOUND: { reason: "there is no host of that name", transient: false },
  ERR_SSL_WRONG_VERSION_NUMBER: {
    reason: "it does not speak TLS; is it http:// and not https://?",
    transient: false,
  },
  ERR_SSL_PACKET_LENGTH_TOO_LONG: {
    reason: "it does not speak TLS; is it http:// and not https://?",
    transient: false,
  },
};

/** The certificate errors of OpenSSL as Node names them. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|^ERR_TLS_/;

/** Reads what fetch rejected with; undefined for an error that is none of the network's. */
export function networkFailure(error: unknown): NetworkFailure | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return { reason: "it took too long to answer", transient: true };
  if (error.cause instanceof Error && error.cause.message === "bad port") {
    return { reason: "no HTTP client may use that port", transient: false };
  }
  for (const code of codes(error)) {
    const known = REASONS[code];
    if (known) return known;
    if (CERTIFICATE.test(code)) {
      const reason = `its TLS certificate is not trusted (${code}); for a CA of your own set NODE_EXTRA_CA_CERTS to its file`;
      return { reason, transient: false };
    }
    if (code.startsWith("ERR_SSL_")) return { reason: `TLS failed (${code})`, transient: false };
    if (code.startsWith("HPE_"))
      return { reason: "it does not speak HTTP; is it https:// and not http://?", transient: false };
  }
  return error instanceof TypeError ? { reason: "the connection failed", transient: true } : undefined;
}

/** The codes of an error, its causes, and those of the several addresses that a name may have. */
function codes(error: Error): string[] {
  const { code, cause, errors } = error as Error & { code?: unknown; errors?: unknown };
  const inner = [cause, ...(Array.isArray(errors) ? errors : [])].filter((one) => one instanceof Error);
  return [...(typeof code === "string" ? [code] : []), ...inner.flatMap(codes)];
}
