import {
  type ComponentDescriptor,
  isSignatureError,
  type SignatureErrorCode,
  type SignatureParameters,
  type Verifier,
  verifySignature,
} from "http-message-sig";
import * as z from "zod";

import {
  type ReadForm,
  readForm,
  type RequestHead,
  type SignatureForm,
  writeForm,
} from "./signature-form.ts";

/** What every signature covers (RFC 9421, section 2.2), and what it covers in addition when a request has a body. */
const HEAD_COMPONENTS = ["@method", "@authority", "@path", "@query"];
const BODY_COMPONENTS = ["content-digest", "content-type"];
const PARAMETERS = ["created", "nonce", "keyid", "tag", "alg"];
const LABEL = "hub";
const ALGORITHM = "ed25519";
const WEBCRYPTO = { name: "Ed25519" };
const NONCE_BYTES = 16;
const NONCE = /^[\w-]{16,64}$/;

/** A signature is accepted for this time after it was made. */
export const MAX_AGE_SECONDS = 60;
/** The signer's clock may be ahead of ours by this much. */
export const MAX_SKEW_SECONDS = 5;

const Base64Url32Bytes = z.string().regex(/^[\w-]{43}$/, "must be 32 bytes in base64url");
const KeyId = z.string().regex(/^[\w.:-]{1,100}$/, "must be 1-100 letters, digits, or any of _ . : -");
const publicPart = { kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: Base64Url32Bytes, kid: KeyId };

/** A public Ed25519 key as a JWK (RFC 8037). One with a private part in it is refused: the agent holds no secret. */
export const PublicKey = z.object({
  ...publicPart,
  d: z
    .undefined("must not be present: this is a private key, and only public keys belong in this file")
    .optional(),
});
export type PublicKey = z.infer<typeof PublicKey>;

/** A private Ed25519 key as a JWK (RFC 8037). */
export const PrivateKey = z.object({ ...publicPart, d: Base64Url32Bytes });
export type PrivateKey = z.infer<typeof PrivateKey>;

/** Why a request is refused, for the operator's log only. */
export const REFUSALS = {
  unsigned: "it has no signature",
  malformed_signature: "its signature headers are malformed",
  incomplete_signature: "its signature does not cover all that it must, or lacks a parameter",
  wrong_tag: "it is signed for an agent of another name",
  unknown_key: "its key is not trusted",
  too_old: `it was signed more than ${MAX_AGE_SECONDS} seconds ago`,
  from_the_future: `it was signed more than ${MAX_SKEW_SECONDS} seconds ahead of our clock`,
  before_start:
    "it was signed before this agent started or its clock was set back, or while an earlier agent was running",
  bad_signature: "its signature does not match its content",
  replayed: "its nonce has been seen before",
  missing_digest: "its body is not covered by its signature",
  digest_mismatch: "its body is not the one that was signed",
  body_too_large: "its body is too large",
  body_cut_off: "its body ended early",
  state_unwritable: "the replay mark of the state folder cannot be written",
} as const;

export type RefusalReason = keyof typeof REFUSALS;

/** A refused request. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, options?: ErrorOptions) {
    super(REFUSALS[reason], options);
    this.reason = reason;
  }
}

/** Signs a request whose body is the given bytes: returns its headers, signature included. */
export type SignRequest = (head: RequestHead, body?: Uint8Array<ArrayBuffer>) => Promise<Headers>;

/** What a valid signature states. */
export interface Claims {
  keyId: string;
  nonce: string;
  /** Epoch seconds. */
  created: number;
  /** The Content-Digest that was signed together with the Content-Type; undefined when they were not. */
  digest: string | undefined;
}

/** The public keys that are trusted, by their key id: each verifies Ed25519 signatures. */
export type TrustedKeys = ReadonlyMap<string, Verifier>;

/** The key that verifies a signature with these parameters. Throws Refusal. */
type VerifierOf = (parameters: SignatureParameters) => Verifier;

/**
 * Signs requests (RFC 9421, Ed25519) for the agent of this name: returns the
 * headers to send in place of the given ones, each time with another nonce, and
 * with a digest (RFC 9530) that covers the body.
 */
export async function requestSigner(
  key: PrivateKey,
  agentName: string,
  now: () => number = Date.now,
): Promise<SignRequest> {
  const { kty, crv, x, d, kid } = key;
  const secret = await crypto.subtle.importKey("jwk", { kty, crv, x, d }, WEBCRYPTO, false, ["sign"]);
  const sign = async (base: Uint8Array) =>
    new Uint8Array(await crypto.subtle.sign(WEBCRYPTO, secret, new Uint8Array(base)));
  return async ({ method, url, headers: unsigned }, body) => {
    const headers = new Headers(unsigned);
    const isBodyCovered = body !== undefined;
    if (isBodyCovered) headers.set("content-digest", await contentDigest(body));
    const created = Math.floor(now() / 1000);
    const form = { created, nonce: makeNonce(), keyId: kid, tag: agentName, isBodyCovered };
    const fields = await writeForm({ method, url, headers }, form, sign);
    headers.set("signature", fields.signature);
    headers.set("signature-input", fields.signatureInput);
    return headers;
  };
}

/**
 * Verifies the signature of a request before its body is read; `checkBody` does
 * the rest. Throws Refusal. The caller checks whether the nonce is new.
 */
export async function verifyHead(
  request: RequestHead,
  { trusted, agentName, now }: { trusted: TrustedKeys; agentName: string; now: number },
): Promise<Claims> {
  if (!request.headers.has("signature") && !request.headers.has("signature-input")) {
    throw new Refusal("unsigned");
  }
  const nowSeconds = Math.floor(now / 1000);
  /** The cheap checks come before the expensive one; what they look at is covered by the signature. */
  const verifierOf = (parameters: SignatureParameters): Verifier => {
    checkParameters(parameters, agentName, nowSeconds);
    const verifier = trusted.get(parameters.keyid!);
    if (!verifier) throw new Refusal("unknown_key");
    return verifier;
  };
  try {
    const form = readForm(request);
    const { created, nonce, keyId, isBodyCovered } = form
      ? await verifyForm(form, verifierOf)
      : await verifyAnyForm(request, verifierOf, nowSeconds);
    const digest = isBodyCovered ? request.headers.get("content-digest")! : undefined;
    return { keyId, nonce, created, digest };
  } catch (error) {
    throw asRefusal(error);
  }
}

async function verifyForm(form: ReadForm, verifierOf: VerifierOf): Promise<SignatureForm> {
  const { created, nonce, keyId, tag, base, signature } = form;
  const verified = verifierOf({ created, nonce, keyid: keyId, tag }).verify(base, signature);
  if (!(await verified)) throw new Refusal("bad_signature");
  return form;
}

async function verifyAnyForm(
  request: RequestHead,
  verifierOf: VerifierOf,
  nowSeconds: number,
): Promise<Omit<SignatureForm, "tag">> {
  const { components, parameters } = await verifySignature(describe(request), {
    label: LABEL,
    policy: {
      algorithms: [ALGORITHM],
      // Everything but the algorithm is checked below, where each fault has its own reason.
      requiredComponents: [],
      requiredParameters: PARAMETERS,
      clockSkew: Number.MAX_SAFE_INTEGER,
      now: nowSeconds,
    },
    resolveVerifier: (candidate) => {
      const covered = plainNames(candidate.components);
      if (!HEAD_COMPONENTS.every((name) => covered.includes(name))) throw new Refusal("incomplete_signature");
      return verifierOf(candidate.parameters);
    },
  });
  const covered = plainNames(components);
  return {
    keyId: parameters.keyid!,
    nonce: parameters.nonce!,
    created: parameters.created!,
    isBodyCovered: BODY_COMPONENTS.every((name) => covered.includes(name)),
  };
}

/** Compares a body with what was signed; an empty body needs no digest. Throws Refusal. */
export async function checkBody(claims: Claims, body: Uint8Array<ArrayBuffer>): Promise<void> {
  if (claims.digest === undefined && body.length === 0) return;
  if (claims.digest === undefined) throw new Refusal("missing_digest");
  if (claims.digest !== (await contentDigest(body))) throw new Refusal("digest_mismatch");
}

/** The value of a Content-Digest header with SHA-256 (RFC 9530, section 2). */
export async function contentDigest(body: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  return `sha-256=:${btoa(String.fromCharCode(...digest))}:`;
}

/** Field by field, because a platform's request object need not be an instance of the global Request. */
function describe({ method, url, headers }: RequestHead) {
  const names = ["signature", "signature-input", ...BODY_COMPONENTS];
  const fields = names.flatMap((name) => {
    const value = headers.get(name);
    return value === null ? [] : [{ name, value }];
  });
  return { kind: "request", method, targetUri: url, fields } as const;
}

/** The names of the covered components without a parameter that would change their meaning. */
function plainNames(components: readonly ComponentDescriptor[]): string[] {
  return components.filter((c) => Object.keys(c.parameters).length === 0).map((c) => c.name);
}

function makeNonce(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function checkParameters(parameters: SignatureParameters, agentName: string, nowSeconds: number): void {
  const { tag, nonce, created } = parameters;
  if (!NONCE.test(nonce ?? "")) throw new Refusal("malformed_signature");
  if (tag !== agentName) throw new Refusal("wrong_tag");
  if (created! < nowSeconds - MAX_AGE_SECONDS) throw new Refusal("too_old");
  if (created! > nowSeconds + MAX_SKEW_SECONDS) throw new Refusal("from_the_future");
}

function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!isSignatureError(error)) return new Refusal("malformed_signature", { cause: error });
  return error.cause instanceof Refusal ? error.cause : new Refusal(reasonOf(error.code), { cause: error });
}

function reasonOf(code: SignatureErrorCode): RefusalReason {
  if (code === "VerificationFailed") return "bad_signature";
  return code === "PolicyViolation" ? "incomplete_signature" : "malformed_signature";
}
