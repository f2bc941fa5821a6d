/**
 * Series of HTTP requests under Sortie's own names, or under the names that vLLM's dashboards read. Those have no
 * prefix, the label `handler` for the route, and statuses such as `5xx`.
 */
import { REQUEST_S } from './buckets.js';
import type { Makers } from './series-makers.js';

export interface HttpSeries {
  /** Counts a request. `route` is null for an unknown path, whose time is not recorded: its method may be any. */
  observe(request: {
    readonly method: string;
    readonly route: string | null;
    readonly status: number;
    readonly seconds: number;
  }): void;
  /** Lets the count of a route's faults start at 0. */
  zero(method: string, route: string, status: number): void;
}

const UNKNOWN = 'unknown';

export function sortieHttpSeries({ counter, histogram }: Makers): HttpSeries {
  const labels = ['method', 'route'] as const;
  const count = counter('http_requests_total', 'HTTP requests.', [...labels, 'status']);
  const time = histogram('http_request_duration_seconds', 'Arrival to the last byte.', REQUEST_S, labels);
  return {
    observe: ({ method, route, status, seconds }) => {
      count.inc({ method, route: route ?? UNKNOWN, status: String(status) });
      if (route !== null) time.observe({ method, route }, seconds);
    },
    zero: (method, route, status) => {
      count.inc({ method, route, status: String(status) }, 0);
    },
  };
}

/** @param makers without a prefix */
export function vllmHttpSeries({ counter, histogram }: Makers): HttpSeries {
  const labels = ['method', 'handler'] as const;
  const count = counter('http_requests_total', 'HTTP requests.', [...labels, 'status']);
  const time = histogram('http_request_duration_seconds', 'Arrival to the last byte.', REQUEST_S, labels);
  const group = (status: number): string => `${Math.floor(status / 100)}xx`;
  return {
    observe: ({ method, route, status, seconds }) => {
      count.inc({ method, handler: route ?? 'none', status: group(status) });
      if (route !== null) time.observe({ method, handler: route }, seconds);
    },
    zero: (method, handler, status) => {
      count.inc({ method, handler, status: group(status) }, 0);
    },
  };
}
