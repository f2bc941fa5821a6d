/**
 * Spans of requests and sequences. Each request has a span. Below it, each of its sequences has the spans queue,
 * prefill and decode, which counts the changes of exit.
 *
 * Must not know: exporters, text. The spans of a sequence are made at its end, from the engine's own instants: the hot
 * path only records exits.
 */
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { type Context, defaultTextMapSetter, SpanKind, SpanStatusCode, trace, type Tracer } from '@opentelemetry/api';
import { monotonicMs } from '../../util/clock.js';
import type { Engine } from '../engine-client/engine.js';
import type { EndedEvent, PlannedEvent, StepMessage } from '../../protocol/index.js';
import type { SequenceFacts } from './sequences.js';
import type { Attributes, CallTrace, RequestTrace } from './trace.js';

/** Date.now() has whole milliseconds. A larger difference is a step or a drift of the wall clock. */
const TOLERANCE_MS = 2;
/** Finer than Date.now(), because it counts from the start of the process. It is right until the wall clock is set. */
let wallOverMonotonic = performance.timeOrigin + performance.now() - monotonicMs();

/** Epoch milliseconds of an instant on the monotonic clock, by the present setting of the wall clock. */
function epoch(instant: number): number {
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
  exit: number | null;
  firstAt: number | null;
  tokens: number;
  /** Such as behind thoughts. */
  exitChanges: number;
}

export class SequenceSpans {
  readonly #live = new Map<string, Live>();
  readonly #tracer: Tracer;

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  begin(id: string, index: number, facts: SequenceFacts, parent: Context): void {
    const nothing = { plan: null, cut: null, exit: null, firstAt: null };
    this.#live.set(id, { parent, index, facts, ...nothing, tokens: 0, exitChanges: 0 });
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
      const now = monotonicMs();
      for (const live of this.#live.values()) {
        if (live.cut !== null) this.#close(live, live.cut);
        else this.#make(live, { startedAt: null, firstTokenAt: live.firstAt, endedAt: now }, {}, 'engine_lost');
      }
      this.#live.clear();
    });
  }

  #step(step: StepMessage): void {
    for (const event of step.planned) {
      const live = this.#live.get(event.id);
      if (live === undefined) continue;
      live.plan = event;
      live.exit = event.exit;
    }
    for (const { id, exit } of step.tokens) {
      const live = this.#live.get(id);
      if (live === undefined) continue;
      if (live.exit !== null && live.exit !== exit) live.exitChanges++;
      live.exit = exit;
      live.firstAt ??= step.at;
      live.tokens++;
    }
    for (const { id } of step.rejected) this.#live.delete(id);
    for (const event of step.ended) {
      const live = this.#live.get(event.id);
      if (live === undefined) continue;
      this.#live.delete(event.id);
      this.#close(live, { ...event, reason: live.cut?.reason ?? event.reason });
    }
  }

  #close(live: Live, event: EndedEvent): void {
    const { promptTokens, cachedTokens, preemptions, reason, landed } = event;
    const outcome = {
      'gen_ai.usage.input_tokens': promptTokens,
      'sortie.cached_tokens': cachedTokens,
      'sortie.preemptions': preemptions,
      'gen_ai.response.finish_reasons': [reason],
      ...(reason === 'stop' &&
        landed && { 'sortie.landed.at_token': landed.at, 'sortie.landed.pressure': landed.pressure }),
    };
    this.#make(live, event, outcome, reason === 'error' ? 'engine_failed' : null);
  }

  #make(
    live: Live,
    times: Pick<EndedEvent, 'startedAt' | 'firstTokenAt' | 'endedAt'>,
    outcome: Attributes,
    error: string | null,
  ): void {
    const { startedAt, firstTokenAt, endedAt } = times;
    const { plan, facts } = live;
    const span = (name: string, from: number, to: number, attributes: Attributes): void => {
      const startTime = epoch(from);
      const all = { 'sortie.choice.index': live.index, ...attributes };
      const made = this.#tracer.startSpan(name, { startTime, attributes: all }, live.parent);
      if (error !== null && to === endedAt) made.setStatus({ code: SpanStatusCode.ERROR, message: error });
      made.end(epoch(to));
    };
    const queueEnd = startedAt ?? firstTokenAt ?? endedAt;
    span('queue', facts.arrivedAt, queueEnd, {
      'sortie.plan.exit_layer': plan?.exit,
      'sortie.plan.reason': plan?.reason,
      'sortie.plan.landing': plan?.landing,
      'sortie.plan.predicted_ttft_ms': plan?.predictedTtftMs,
      'sortie.plan.predicted_tpot_ms': plan?.predictedTpotMs,
      'sortie.plan.predicted_ms': plan?.predictedMs,
      'sortie.plan.service_class': plan?.serviceClass,
      'sortie.budget_ms': facts.budget?.totalMs ?? undefined,
    });
    if (startedAt !== null) {
      const end = firstTokenAt ?? endedAt;
      const { 'gen_ai.usage.input_tokens': input = facts.promptTokens, 'sortie.cached_tokens': cached = 0 } = outcome;
      const tokens = { 'gen_ai.usage.input_tokens': input, 'sortie.cached_tokens': cached };
      span('prefill', startedAt, end, tokens);
    }
    if (firstTokenAt === null) return;
    span('decode', firstTokenAt, endedAt, {
      ...outcome,
      'gen_ai.usage.output_tokens': live.tokens,
      'sortie.exit_changes': live.exitChanges,
      'sortie.exit_layer': live.exit ?? undefined,
    });
  }
}

const propagator = new W3CTraceContextPropagator();

/** Starts the span of a call to another server. */
function startCall(tracer: Tracer, parent: Context, name: string, attributes: Attributes): CallTrace {
  const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, startTime: epoch(monotonicMs()), attributes }, parent);
  const headers: Record<string, string> = {};
  propagator.inject(trace.setSpan(parent, span), headers, defaultTextMapSetter);
  return {
    headers,
    end(more, error) {
      span.setAttributes({ ...more, ...(error !== null && { 'error.type': error }) });
      if (error !== null) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end(epoch(monotonicMs()));
    },
  };
}

/** Starts the span of a request. It is a child of the client's span if the request carries one. */
export function startRequest(
  tracer: Tracer,
  sequences: SequenceSpans,
  parent: Context,
  name: string,
  arrivedAt: number,
  attributes: Attributes,
): RequestTrace {
  const startTime = epoch(arrivedAt);
  const span = tracer.startSpan(name, { kind: SpanKind.SERVER, startTime, attributes }, parent);
  const context = trace.setSpan(parent, span);
  let error: string | null = null;
  return {
    traceId: span.spanContext().traceId,
    begin(id, index, facts) {
      if (span.isRecording()) sequences.begin(id, index, facts, context);
    },
    call: (called, more) => startCall(tracer, context, called, more),
    describe(more) {
      // The client may have disconnected while the gateway still read the request.
      if (!span.isRecording()) return;
      if (typeof more['error.type'] === 'string') error = more['error.type'];
      span.setAttributes(more);
    },
    end(status) {
      span.setAttribute('http.response.status_code', status);
      if (status >= 400 && error === null) span.setAttribute('error.type', String(status));
      // By the convention of HTTP servers, a client's mistake is not an error of the span.
      if (status >= 500 || (error !== null && status < 400)) span.setStatus({ code: SpanStatusCode.ERROR });
      // The SDK's default end time is Date.now(), which for a short request may lie before its start.
      span.end(epoch(monotonicMs()));
    },
  };
}
