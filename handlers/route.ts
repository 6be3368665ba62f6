import type * as z from "zod";

import type { ProblemCode } from "../host-agent/protocol/problem.ts";
import type { Principal, Scope } from "./auth.ts";
import type { Deps } from "./deps.ts";
import type { Reply } from "./reply.ts";

/** A route is data plus a function: the pipeline and the OpenAPI document read the same object. */
export interface Route<S extends Schemas = Schemas> {
  method: "get" | "post";
  path: string;
  operationId: string;
  tag: string;
  summary: string;
  description: string;
  /** Omitted for a public route. */
  scope?: Scope;
  request: S;
  /** The body in the document, of a route that takes more than it documents. */
  documentedBody?: z.ZodType;
  /** A whole body, for the document. */
  bodyExample?: object;
  /** True when a request without a body means an empty object. */
  bodyOptional?: boolean;
  /** True for a launch, which takes an Idempotency-Key. */
  idempotent?: boolean;
  /** True for a route that takes `Prefer: wait=N`. */
  waits?: boolean;
  response: {
    status: number;
    description: string;
    body: z.ZodType;
    headers?: ResponseHeader[];
    /** Further statuses that have the same body. */
    alsoWith?: Record<number, string>;
    /** Further content types with their schemas. */
    alternatives?: Record<string, z.ZodType>;
  };
  /** The problems of this route, in addition to those that every route can have. */
  problems: ProblemCode[];
  handle(input: Input<S>, deps: Deps): Promise<Reply>;
}

/** The schemas of a route's request; a part without one takes no input. */
export interface Schemas {
  params?: z.ZodType;
  query?: z.ZodType;
  body?: z.ZodType;
}

/** What a handler receives: the parsed request, and its context. */
export type Input<S extends Schemas> = { [K in keyof S]: z.output<NonNullable<S[K]>> } & Context;

/** What a handler may know of its request in addition to the parsed parts. */
export interface Context {
  principal: Principal;
  requestId: string;
  headers: Headers;
  /**
   * Authenticates the request again if it has taken longer than a second, and tells whether its key still reaches the same. Throws as
   * the first time.
   */
  readmit(): Promise<boolean>;
  /** Aborts when the client closes the connection. */
  signal: AbortSignal;
}

/** A response header, for the OpenAPI document. */
export interface ResponseHeader {
  name: string;
  description: string;
  /** When every answer of this status has the header. */
  required?: true;
  /** JSON Schema, in the part that OpenAPI 3.0 has too. */
  schema: HeaderSchema;
}

/** The schema of a header's value. */
export interface HeaderSchema {
  type: "string" | "integer" | "boolean";
  format?: "int32" | "int64";
  minimum?: number;
  enum?: string[];
}

/** Keeps the types of a route's schemas for its handler. */
export function defineRoute<S extends Schemas>(route: Route<S>): Route {
  return route;
}
