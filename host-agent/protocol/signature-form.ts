/** A request without its body. */
export type RequestHead = Pick<Request, "method" | "url" | "headers">;

/** The parts of a request that its signature covers, and those that it covers in addition when there is a body. */
const HEAD = '"@method" "@authority" "@path" "@query"';
const BODY = '"content-digest" "content-type"';

const INPUT =
  /^hub=(\("@method" "@authority" "@path" "@query"( "content-digest" "content-type")?\);created=(0|[1-9]\d{0,14});nonce="([\w-]{16,64})";keyid="([\w.:-]{1,100})";tag="([ !#-[\]-~]*)";alg="ed25519")$/;
/** 64 bytes in base64; the unused bits of the last character are zero. */
const SIGNATURE = /^hub=:([A-Za-z0-9+/]{85}[AQgw]==):$/;
const METHOD = /^[A-Z]+$/;
const TARGET = /^[^:]+:\/\/[^/?#]*(\/[^?#]*)?(\?[^#]*)?$/;
const PRINTABLE = /^[ -~]*$/;

const encoder = new TextEncoder();

/** The parameters of a signature. */
export interface SignatureForm {
  /** Epoch seconds. */
  created: number;
  nonce: string;
  keyId: string;
  /** The name of the agent. */
  tag: string;
  isBodyCovered: boolean;
}

/** A signature that was read, and the bytes that it was made of (RFC 9421, section 2.5). */
export interface ReadForm extends SignatureForm {
  base: Uint8Array;
  signature: Uint8Array;
}

// Every edge writes its signatures in one form. A full parser of RFC 9421 costs more than half as much as the
// mathematics of a signature, on both sides; this file reads and writes that one form. What has any other form is left to
// the full parser: if this file gives an answer, the full parser gives the same one.

/** Reads the signature of a request. Undefined when it has another form. Throws TypeError for a malformed URL. */
export function readForm(head: RequestHead): ReadForm | undefined {
  const input = INPUT.exec(head.headers.get("signature-input") ?? "");
  const signature = SIGNATURE.exec(head.headers.get("signature") ?? "");
  if (!input || !signature) return undefined;
  const [, parameters, body, created, nonce, keyId, tag] = input;
  const isBodyCovered = body !== undefined;
  const base = baseOf(head, parameters!, isBodyCovered);
  if (!base) return undefined;
  const bytes = Uint8Array.from(atob(signature[1]!), (character) => character.charCodeAt(0));
  return {
    created: Number(created),
    nonce: nonce!,
    keyId: keyId!,
    tag: tag!,
    isBodyCovered,
    base,
    signature: bytes,
  };
}

/**
 * Signs a request in this form: resolves with its Signature and Signature-Input. Throws TypeError for a malformed URL,
 * for one that is not ASCII, and for a body without Content-Digest and Content-Type.
 */
export async function writeForm(
  head: RequestHead,
  { created, nonce, keyId, tag, isBodyCovered }: SignatureForm,
  sign: (base: Uint8Array) => Promise<Uint8Array>,
): Promise<{ signature: string; signatureInput: string }> {
  const components = isBodyCovered ? `${HEAD} ${BODY}` : HEAD;
  const escaped = tag.replaceAll(/["\\]/g, "\\$&");
  const parameters = `(${components});created=${created};nonce="${nonce}";keyid="${keyId}";tag="${escaped}";alg="ed25519"`;
  const base = baseOf(head, parameters, isBodyCovered);
  if (!base) throw new TypeError("this request cannot be signed");
  const signature = btoa(String.fromCharCode(...(await sign(base))));
  return { signature: `hub=:${signature}:`, signatureInput: `hub=${parameters}` };
}

function baseOf(
  { method, url, headers }: RequestHead,
  parameters: string,
  isBodyCovered: boolean,
): Uint8Array | undefined {
  const target = TARGET.exec(url);
  const digest = headers.get("content-digest");
  const type = headers.get("content-type");
  if (!target || (isBodyCovered && (digest === null || type === null))) return undefined;
  if (!METHOD.test(method) || !PRINTABLE.test(`${url}${digest}${type}${parameters}`)) return undefined;
  const [, path = "/", query = "?"] = target;
  const body = isBodyCovered ? `"content-digest": ${digest}\n"content-type": ${type}\n` : "";
  return encoder.encode(
    `"@method": ${method}\n"@authority": ${new URL(url).host}\n"@path": ${path}\n"@query": ${query}\n` +
      `${body}"@signature-params": ${parameters}`,
  );
}
