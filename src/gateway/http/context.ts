/** The values that the HTTP layer gets, its small state, and what it keeps with routes and requests. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { ApiContext, Caller, RequestPolicy } from '../api/context.js';
import type { GeneratingEndpoint, PlainEndpoint } from '../api/endpoints/endpoint.js';
import type { ServeOptions } from '../../cli/options/config.js';
import type { Forwarded } from './forwarded.js';
import type { ApiKey } from './keys.js';
import type { OpenResponse, OpenResponses } from './responses.js';
import type { AnswerRecord } from '../telemetry/answer-record.js';
import type { Logger } from '../telemetry/log.js';
import type { RequestTrace, Tracing } from '../telemetry/trace.js';
import type { UpstreamGateway } from '../upstream/gateway.js';
import type { Series } from '../telemetry/series.js';

/** A part of the use of an API key, in units of its limits. Negative: it ended, or gives back. */
export interface KeyUse {
  /** Digest of the key. */
  readonly keyId: string;
  readonly requests: number;
  readonly tokens: number;
  readonly inFlight: number;
}

/** The other processes of a server in several processes, each of which takes a part of its connections. */
export interface Peers {
  /** The series of all processes, as text. */
  metrics(): Promise<string>;
  /** Tells the others of a use here. */
  tell(use: KeyUse): void;
  /** @param listener hears of the uses elsewhere */
  onUse(listener: (use: KeyUse) => void): void;
}

/** The values of a server, with or without a local model. */
export interface GatewayContext {
  readonly series: Series;
  readonly options: ServeOptions;
  /** For all clients. The policy of an API key wins. */
  readonly policy: RequestPolicy;
  /** Without keys every request passes. A reload of the key file replaces the keys. */
  apiKeys: readonly ApiKey[];
  /** Null if tracing is off. */
  readonly tracing: Tracing | null;
  readonly version: string;
  /** Models that run elsewhere; absent: none. */
  readonly upstreams?: UpstreamGateway;
  readonly log: Logger;
  /** Absent: the server is one process. */
  readonly peers?: Peers;
  /** Set once on SIGTERM. Readiness fails then, and new requests are rejected. */
  draining: boolean;
  /** Absent: the server has no local model. */
  readonly api?: ApiContext;
}

/** A server with a local model. */
export type HttpContext = GatewayContext & { readonly api: ApiContext };

export const isLocal = (context: GatewayContext): context is HttpContext => context.api !== undefined;

/** A part of the work on each request that has arrived. It throws what rejects the request. */
export type Step = (request: FastifyRequest, reply: FastifyReply) => void;

declare module 'fastify' {
  interface FastifyInstance {
    readonly responses: OpenResponses;
  }
  interface FastifyContextConfig {
    /** Absent: the route needs no key, and takes part in no limit. */
    endpoint?: PlainEndpoint | GeneratingEndpoint<object>;
  }
  interface FastifyRequest {
    forwarded: Forwarded;
    response: OpenResponse;
    caller: Caller;
    /** Fields that request handling adds to the log line. */
    logFields: Record<string, unknown>;
    /** The record of its answer; null: it has none so far. */
    answer: AnswerRecord | null;
    /** Gives further fields for the line of a client that disconnected; null for none. */
    cancelFields: (() => Readonly<Record<string, unknown>>) | null;
    /** Null if tracing is off. */
    trace: RequestTrace | null;
    /** Gives back the share that the bytes of its body hold until they are there; null: it holds none. */
    bodyArrived: (() => void) | null;
  }
}
