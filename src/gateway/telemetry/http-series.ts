/**
 * Series of HTTP requests under Sortie's own names, or under the names that vLLM's dashboards read. Those have no
 * prefix, the label `handler` for the route, and statuses such as `5xx`.
 */
import type { Registry } from 'prom-client';
import { REQUEST_S } from './buckets.js';
import { counter, histogram, madeFrom } from './series-makers.js';

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

interface Names {
  /** The label of the route. */
  readonly route: 'route' | 'handler';
  /** Stands for the route of an unknown path. */
  readonly unknown: string;
  /** The label of a status. */
  readonly status: (status: number) => string;
}

const SORTIE: Names = { route: 'route', unknown: 'unknown', status: String };
const VLLM: Names = { route: 'handler', unknown: 'none', status: (status) => `${Math.floor(status / 100)}xx` };

/** @param prefix none for vLLM's names */
export function httpSeries(registry: Registry, prefix: string): HttpSeries {
  const names = prefix === '' ? VLLM : SORTIE;
  const labels = ['method', names.route] as const;
  const { count, time } = madeFrom(registry, prefix, {
    count: counter('http_requests_total', 'HTTP requests.', [...labels, 'status']),
    time: histogram('http_request_duration_seconds', 'Arrival to the last byte.', REQUEST_S, labels),
  });
  return {
    observe: ({ method, route, status, seconds }) => {
      count.inc({ method, [names.route]: route ?? names.unknown, status: names.status(status) });
      if (route !== null) time.observe({ method, [names.route]: route }, seconds);
    },
    zero: (method, route, status) => {
      count.inc({ method, [names.route]: route, status: names.status(status) }, 0);
    },
  };
}
