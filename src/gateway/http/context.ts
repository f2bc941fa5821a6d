/** The values that the HTTP layer gets, and its small state. */
import type { ApiContext, RequestPolicy } from '../api/context.js';
import type { ServeOptions } from '../../cli/options/config.js';
import type { ApiKey } from './keys.js';
import type { Peers } from './peers.js';
import type { Logger } from '../telemetry/log.js';
import type { Tracing } from '../telemetry/trace.js';
import type { UpstreamGateway } from '../upstream/gateway.js';
import type { Series } from '../telemetry/series.js';

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
