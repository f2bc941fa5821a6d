/**
 * Spans of sequences: below the span of its request each has queue, prefill and decode, which counts the changes of
 * exit.
 *
 * Must not know: exporters, text. The spans of a sequence are made at its end, from the engine's own instants.
 */
import { type Context, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import { monotonicMs } from '../../util/clock.js';
import type { OnEnd } from './requests.js';
import type { Attributes } from './trace.js';

/** Date.now() has whole milliseconds. A larger difference is a step or a drift of the wall clock. */
const TOLERANCE_MS = 2;
/** Finer than Date.now(), because it counts from the start of the process. It is right until the wall clock is set. */
let wallOverMonotonic = performance.timeOrigin + performance.now() - monotonicMs();

/** Epoch milliseconds of an instant on the monotonic clock, by the present setting of the wall clock. */
export function epoch(instant: number): number {
  const offset = Date.now() - monotonicMs();
  if (Math.abs(offset - wallOverMonotonic) > TOLERANCE_MS) wallOverMonotonic = offset;
  return wallOverMonotonic + instant;
}

/** Makes the spans of a sequence at its end. @param index of its choice */
export const sequenceSpans =
  (tracer: Tracer, parent: Context, index: number): OnEnd =>
  (sequence, how) => {
    const { plan, budget, arrivedAt, tokens, exit, exitChanges, firstAt } = sequence;
    const end = typeof how === 'string' ? null : how;
    const lost = { startedAt: null, firstTokenAt: firstAt, endedAt: monotonicMs() };
    const { startedAt, firstTokenAt, endedAt } = end ?? lost;
    const failed = end?.reason === 'error' ? 'engine_failed' : null;
    const error = typeof how === 'string' ? how : failed;
    const span = (name: string, from: number, to: number, own: Attributes): void => {
      const attributes = { 'sortie.choice.index': index, ...own };
      const made = tracer.startSpan(name, { startTime: epoch(from), attributes }, parent);
      // The last span has failed.
      if (error !== null && to === endedAt) made.setStatus({ code: SpanStatusCode.ERROR, message: error });
      made.end(epoch(to));
    };
    span('queue', arrivedAt, startedAt ?? firstTokenAt ?? endedAt, {
      'sortie.plan.exit_layer': plan?.exit,
      'sortie.plan.reason': plan?.reason,
      'sortie.plan.landing': plan?.landing,
      'sortie.plan.predicted_ttft_ms': plan?.predictedTtftMs,
      'sortie.plan.predicted_tpot_ms': plan?.predictedTpotMs,
      'sortie.plan.predicted_ms': plan?.predictedMs,
      'sortie.plan.service_class': plan?.serviceClass,
      'sortie.budget_ms': budget?.totalMs ?? undefined,
    });
    const read = { 'gen_ai.usage.input_tokens': end?.promptTokens, 'sortie.cached_tokens': end?.cachedTokens };
    if (startedAt !== null) span('prefill', startedAt, firstTokenAt ?? endedAt, read);
    if (firstTokenAt === null) return;
    const landing = end?.reason === 'stop' ? end.landed : undefined;
    span('decode', firstTokenAt, endedAt, {
      ...read,
      'sortie.preemptions': end?.preemptions,
      'gen_ai.response.finish_reasons': end === null ? undefined : [end.reason],
      'sortie.landed.at_token': landing?.at,
      'sortie.landed.pressure': landing?.pressure,
      'gen_ai.usage.output_tokens': tokens,
      'sortie.exit_changes': exitChanges,
      'sortie.exit_layer': exit,
    });
  };
