import type { FieldError } from "../../host-agent/protocol/problem.ts";

/**
 * Why a request has no usable result:
 * `refused`: the Hub answered with a problem (RFC 9457);
 * `no-answer`: the network failed, or the answer was cut off;
 * `not-a-hub`: something answered, but not as the Hub does.
 */
export type FailureKind = "refused" | "no-answer" | "not-a-hub";

export interface HubErrorFacts {
  kind: FailureKind;
  /** HTTP's status; 0 without an answer. */
  status?: number;
  /** The problem's stable code. */
  code?: string | undefined;
  /** The invalid fields, with `invalid_request`. */
  errors?: readonly FieldError[] | undefined;
  /** The log's size in bytes, with `offset_beyond_end`. */
  size?: number | undefined;
  retryAfterSeconds?: number | undefined;
  /** The same request may succeed later. */
  transient?: boolean;
  /** No server can have received the request. */
  isUnsent?: boolean | undefined;
  /** What to do next, without a full stop; for the report after the last attempt. */
  advice?: string | undefined;
  /** The headers of the answer. */
  headers?: Headers;
  cause?: unknown;
}

/** A request to the Hub that failed. `message` can be shown to a person as it is. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly facts: HubErrorFacts;

  constructor(message: string, facts: HubErrorFacts) {
    super(message, { cause: facts.cause });
    this.facts = facts;
  }

  get kind(): FailureKind {
    return this.facts.kind;
  }

  /** HTTP's status; 0 without an answer. */
  get status(): number {
    return this.facts.status ?? 0;
  }

  /** The problem's stable code, if the answer is a problem. */
  get code(): string | undefined {
    return this.facts.code;
  }

  /**
   * True when the request may have had its effect: its answer was lost, or a server failed while it handled it. False for
   * what never reached a server, and for a redirect or refusal (3xx, 4xx), which the Hub and proxies send instead of acting.
   */
  get mayHaveActed(): boolean {
    return this.facts.isUnsent !== true && !(this.status >= 300 && this.status < 500);
  }

  /** True when the same request may succeed later. */
  get transient(): boolean {
    return this.facts.transient === true;
  }
}

/** True for a problem of the Hub with this stable code. */
export function isProblem(error: unknown, code: string): error is HubError {
  return error instanceof HubError && error.code === code;
}
