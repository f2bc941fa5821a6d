/** One request to an upstream, as metrics and traces see it. Must not know: connections, the form of answers. */
import type { CallTrace } from '../telemetry/trace.js';
import type { TryEnd, UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import { monotonicMs } from '../../util/clock.js';
import { type Outcome, outcomeOf } from '../../protocol/outcome.js';
import type { UpstreamCall } from './call.js';
import type { UpstreamSettings } from './upstream-body.js';
import type { Upstream } from './upstream.js';
import type { UsageMeter } from './usage-meter.js';

/** Statuses that say that the server has no capacity. */
const REFUSED = [429, 503];

export class ObservedTry {
  readonly #trace: CallTrace | null;

  constructor(
    private readonly metrics: UpstreamMetrics,
    private readonly call: Pick<UpstreamCall, 'path' | 'request' | 'onSent'>,
    upstream: Upstream,
    private readonly budget: UpstreamSettings['budget'],
  ) {
    const operation = call.path === '/completions' ? 'text_completion' : 'chat';
    this.#trace =
      call.request.trace?.call(`${operation} ${upstream.model}`, {
        'gen_ai.operation.name': operation,
        'gen_ai.provider.name': 'upstream',
        'gen_ai.request.model': upstream.model,
        'server.address': upstream.url.hostname,
        'server.port': Number(upstream.url.port) || (upstream.url.protocol === 'https:' ? 443 : 80),
        'sortie.budget_ms': budget?.totalMs,
      }) ?? null;
    const { arrivedAt } = call.request;
    // An answer that goes on past its budget has no deadline.
    if (budget === null || budget.onMiss === 'continue') return;
    call.onSent(() => {
      metrics.lastByte(monotonicMs() - arrivedAt - budget.totalMs);
    });
  }

  /** The headers that carry the trace to the upstream. */
  get headers(): Readonly<Record<string, string>> {
    return this.#trace?.headers ?? {};
  }

  /** @param hasFailed whether the gateway throws */
  end(meter: UsageMeter, hasFailed: boolean): void {
    const end = endOf(meter, this.call.request.signal.aborted, hasFailed);
    const { status, usage, ttftMs } = meter;
    const outcome = this.#outcome(meter, end);
    this.metrics.ended({ status, end, outcome });
    const attributes = {
      'http.response.status_code': status ?? undefined,
      'gen_ai.usage.input_tokens': usage.prompt_tokens,
      'gen_ai.usage.output_tokens': usage.completion_tokens,
      'gen_ai.response.time_to_first_chunk': ttftMs === null ? undefined : ttftMs / 1000,
      'sortie.upstream.end': end,
      'sortie.outcome': outcome ?? undefined,
    };
    const isFault = end === 'failed' || end === 'rejected';
    this.#trace?.end(attributes, isFault ? String(status === null || status < 400 ? 'upstream_failed' : status) : null);
  }

  #outcome({ broken, status }: UsageMeter, end: TryEnd): Outcome | null {
    if (end === 'cancelled' || end === 'rejected') return null;
    if (broken === null && status !== null && REFUSED.includes(status)) return 'refused';
    const ending = broken?.ending ?? { end: 'whole', isEmpty: end === 'failed' };
    const unlimited = { ttftMs: null, tpotMs: null };
    const actual = { ...unlimited, totalMs: monotonicMs() - this.call.request.arrivedAt };
    return outcomeOf(ending, actual, this.budget === null ? null : { ...unlimited, totalMs: this.budget.totalMs });
  }
}

function endOf({ broken, status }: UsageMeter, isCancelled: boolean, hasFailed: boolean): TryEnd {
  if (isCancelled) return 'cancelled';
  if (broken !== null) return broken.by === 'deadline' ? 'deadline' : 'failed';
  if (status === null || hasFailed || status === 429 || status >= 500) return 'failed';
  return status >= 400 ? 'rejected' : 'whole';
}
