/**
 * Spans of sequences: below the span of its request each has queue, prefill and decode, which counts the changes of
 * exit.
 *
 * Must not know: exporters, text. The spans of a sequence are made at its end, from the engine's own instants: the hot
 * path only records exits.
 */
import { type Context, SpanStatusCode, type Tracer } from '@opentelemetry/api';
import { monotonicMs } from '../../util/clock.js';
import type { Engine } from '../engine-client/engine.js';
import type { EndedEvent, PlannedEvent, StepMessage } from '../../protocol/index.js';
import type { SequenceFacts } from './requests.js';
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

interface Live {
  readonly parent: Context;
  readonly index: number;
  readonly facts: SequenceFacts;
  plan: PlannedEvent | null;
  /** The end that the client saw, if it came before the engine's own end event. */
  cut: EndedEvent | null;
  /** Of the last token. */
  exit: number | undefined;
  firstAt: number | null;
  tokens: number;
  exitChanges: number;
}

export class SequenceSpans {
  readonly #live = new Map<string, Live>();

  constructor(private readonly tracer: Tracer) {}

  begin(id: string, index: number, facts: SequenceFacts, parent: Context): void {
    const nothing = { plan: null, cut: null, exit: undefined, firstAt: null, tokens: 0, exitChanges: 0 };
    this.#live.set(id, { parent, index, facts, ...nothing });
  }

  observe(engine: Engine): void {
    engine.on('step', (step) => {
      if (this.#live.size > 0) this.#step(step);
    });
    engine.on('cut', (end) => {
      const live = this.#live.get(end.id);
      if (live !== undefined) live.cut = end;
    });
    engine.on('down', () => {
      const endedAt = monotonicMs();
      for (const live of this.#live.values()) {
        if (live.cut !== null) this.#ended(live, live.cut);
        else this.#make(live, { startedAt: null, firstTokenAt: live.firstAt, endedAt }, {}, 'engine_lost');
      }
      this.#live.clear();
    });
  }

  #step(step: StepMessage): void {
    for (const event of step.planned) {
      const live = this.#live.get(event.id);
      if (live !== undefined) [live.plan, live.exit] = [event, event.exit];
    }
    for (const { id, exit } of step.tokens) {
      const live = this.#live.get(id);
      if (live === undefined) continue;
      if (live.exit !== undefined && live.exit !== exit) live.exitChanges++;
      live.exit = exit;
      live.firstAt ??= step.at;
      live.tokens++;
    }
    for (const { id } of step.rejected) this.#live.delete(id);
    for (const event of step.ended) {
      const live = this.#live.get(event.id);
      this.#live.delete(event.id);
      if (live !== undefined) this.#ended(live, { ...event, reason: live.cut?.reason ?? event.reason });
    }
  }

  #ended(live: Live, event: EndedEvent): void {
    const { promptTokens, cachedTokens, preemptions, reason, landed } = event;
    const landing = reason === 'stop' ? landed : undefined;
    const outcome = {
      'gen_ai.usage.input_tokens': promptTokens,
      'sortie.cached_tokens': cachedTokens,
      'sortie.preemptions': preemptions,
      'gen_ai.response.finish_reasons': [reason],
      'sortie.landed.at_token': landing?.at,
      'sortie.landed.pressure': landing?.pressure,
    };
    this.#make(live, event, outcome, reason === 'error' ? 'engine_failed' : null);
  }

  /** @param error marks the last span as failed */
  #make(
    { parent, index, facts, plan, tokens, exit, exitChanges }: Live,
    { startedAt, firstTokenAt, endedAt }: Pick<EndedEvent, 'startedAt' | 'firstTokenAt' | 'endedAt'>,
    outcome: Attributes,
    error: string | null,
  ): void {
    const span = (name: string, from: number, to: number, own: Attributes): void => {
      const attributes = { 'sortie.choice.index': index, ...own };
      const made = this.tracer.startSpan(name, { startTime: epoch(from), attributes }, parent);
      if (error !== null && to === endedAt) made.setStatus({ code: SpanStatusCode.ERROR, message: error });
      made.end(epoch(to));
    };
    span('queue', facts.arrivedAt, startedAt ?? firstTokenAt ?? endedAt, {
      'sortie.plan.exit_layer': plan?.exit,
      'sortie.plan.reason': plan?.reason,
      'sortie.plan.landing': plan?.landing,
      'sortie.plan.predicted_ttft_ms': plan?.predictedTtftMs,
      'sortie.plan.predicted_tpot_ms': plan?.predictedTpotMs,
      'sortie.plan.predicted_ms': plan?.predictedMs,
      'sortie.plan.service_class': plan?.serviceClass,
      'sortie.budget_ms': facts.budget?.totalMs ?? undefined,
    });
    if (startedAt !== null)
      span('prefill', startedAt, firstTokenAt ?? endedAt, {
        'gen_ai.usage.input_tokens': outcome['gen_ai.usage.input_tokens'],
        'sortie.cached_tokens': outcome['sortie.cached_tokens'],
      });
    if (firstTokenAt !== null)
      span('decode', firstTokenAt, endedAt, {
        ...outcome,
        'gen_ai.usage.output_tokens': tokens,
        'sortie.exit_changes': exitChanges,
        'sortie.exit_layer': exit,
      });
  }
}
