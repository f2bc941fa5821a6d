/** What the HTTP layer is handed, and the little that it remembers. */
import type { ApiContext } from '../api/context.js';
import type { ServeOptions } from '../config.js';
import type { ApiKey } from './keys.js';
import type { Logger } from '../telemetry/log.js';
import type { Tracing } from '../telemetry/trace.js';
import type { Series } from '../telemetry/series.js';

export type HttpOptions = Pick<
  ServeOptions,
  | 'maxBody'
  | 'maxConnections'
  | 'requestTimeout'
  | 'stallTimeout'
  | 'keepAlive'
  | 'corsOrigin'
  | 'logPrompts'
  | 'opsPort'
  | 'mainMetrics'
>;

export interface HttpContext {
  readonly api: ApiContext;
  readonly series: Series;
  readonly options: HttpOptions;
  /** Empty: no key is asked for. */
  readonly apiKeys: readonly ApiKey[];
  /** Null: no traces. */
  readonly tracing: Tracing | null;
  readonly version: string;
  readonly log: Logger;
  /** Set once on SIGTERM: readiness and new requests are refused. */
  draining: boolean;
}
