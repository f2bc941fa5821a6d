/**
 * What is traced: a span for each request; below it, for each of its sequences, queue, prefill and decode; below decode
 * a span `replan` for each change of depth, from the last token at the old exit to the first one at the new: what
 * catching up took is in it.
 *
 * Knows: the engine's events, names of OpenTelemetry's HTTP and GenAI conventions. Must not know: exporters, text.
 * Spans of sequences are made when they end, from the engine's own instants: the hot path only notes exits.
 */
import { type Context, type Span, SpanKind, SpanStatusCode, trace, type Tracer } from '@opentelemetry/api';
import { monotonicMs } from '../util/clock.js';
import type { Engine } from '../engine/client/engine.js';
import type { EndedEvent, PlannedEvent, StepMessage } from '../engine/protocol.js';
import type { SequenceFacts } from './requests.js';
import type { Attributes, RequestTrace } from './trace.js';

/** Date.now() tells whole milliseconds: only what is further off is a step of the wall clock, or its drift. */
const TOLERANCE_MS = 2;
/** Finer than Date.now(), but only right until the wall clock is set: it counts from the start of the process. */
let wallOverMonotonic = performance.timeOrigin + performance.now() - monotonicMs();

/** Epoch milliseconds of an instant on the monotonic clock, by the wall clock as it is set now. */
function epoch(instant: number): number {
  const told = Date.now() - monotonicMs();
  if (Math.abs(told - wallOverMonotonic) > TOLERANCE_MS) wallOverMonotonic = told;
  return wallOverMonotonic + instant;
}

/** A sequence that changes its depth with every token must not flood the collector; decode has their number. */
const MOST_REPLANS = 64;

interface Change {
  readonly since: number;
  readonly at: number;
  readonly from: number;
  readonly to: number;
  readonly tokens: number;
}

interface Live {
  readonly parent: Context;
  readonly index: number;
  readonly facts: SequenceFacts;
  plan: PlannedEvent | null;
  /** How it ended for its caller, where that was before the engine told of an end. */
  cut: EndedEvent | null;
  exit: number | null;
  firstAt: number | null;
  lastAt: number | null;
  tokens: number;
  replans: number;
  /** The first of them. */
  readonly changes: Change[];
}

export class SequenceSpans {
  readonly #live = new Map<string, Live>();

  constructor(private readonly tracer: Tracer) {}

  begin(id: string, index: number, facts: SequenceFacts, parent: Context): void {
    const nothing = {
      plan: null,
      cut: null,
      exit: null,
      firstAt: null,
      lastAt: null,
      tokens: 0,
      replans: 0,
      changes: [],
    };
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
      const now = monotonicMs();
      for (const live of this.#live.values()) {
        if (live.cut !== null) this.#ended(live, live.cut);
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
      if (live.exit !== null && live.exit !== exit && live.replans++ < MOST_REPLANS) {
        const since = live.lastAt ?? step.at;
        live.changes.push({ since, at: step.at, from: live.exit, to: exit, tokens: live.tokens });
      }
      live.exit = exit;
      live.firstAt ??= step.at;
      live.lastAt = step.at;
      live.tokens++;
    }
    for (const { id } of step.refused) this.#live.delete(id);
    for (const event of step.ended) {
      const live = this.#live.get(event.id);
      if (live === undefined) continue;
      this.#live.delete(event.id);
      this.#ended(live, { ...event, reason: live.cut?.reason ?? event.reason });
    }
  }

  #ended(live: Live, event: EndedEvent): void {
    const { promptTokens, cachedTokens, preemptions, reason } = event;
    const outcome = {
      'gen_ai.usage.input_tokens': promptTokens,
      'sortie.cached_tokens': cachedTokens,
      'sortie.preemptions': preemptions,
      'gen_ai.response.finish_reasons': [reason],
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
    const span = (name: string, from: number, to: number, attributes: Attributes, parent = live.parent): Span => {
      const startTime = epoch(from);
      const all = { 'sortie.choice.index': live.index, ...attributes };
      const made = this.tracer.startSpan(name, { startTime, attributes: all }, parent);
      if (error !== null && to === endedAt) made.setStatus({ code: SpanStatusCode.ERROR, message: error });
      made.end(epoch(to));
      return made;
    };
    const queueEnd = startedAt ?? firstTokenAt ?? endedAt;
    span('queue', facts.arrivedAt, queueEnd, {
      ...(plan === null
        ? {}
        : {
            'sortie.plan.exit_layer': plan.exit,
            'sortie.plan.predicted_ttft_ms': plan.predictedTtftMs,
            'sortie.plan.predicted_tpot_ms': plan.predictedTpotMs,
            'sortie.plan.predicted_ms': plan.predictedMs,
            'sortie.plan.service_class': plan.serviceClass,
          }),
      ...(facts.budget?.totalMs == null ? {} : { 'sortie.budget_ms': facts.budget.totalMs }),
    });
    if (startedAt !== null) {
      const end = firstTokenAt ?? endedAt;
      const { 'gen_ai.usage.input_tokens': input = facts.promptTokens, 'sortie.cached_tokens': cached = 0 } = outcome;
      const tokens = { 'gen_ai.usage.input_tokens': input, 'sortie.cached_tokens': cached };
      span('prefill', startedAt, end, tokens);
    }
    if (firstTokenAt === null) return;
    const decode = span('decode', firstTokenAt, endedAt, {
      ...outcome,
      'gen_ai.usage.output_tokens': live.tokens,
      'sortie.replans': live.replans,
      ...(live.exit === null ? {} : { 'sortie.exit_layer': live.exit }),
    });
    const below = trace.setSpan(live.parent, decode);
    for (const { since, at, from, to, tokens } of live.changes) {
      const change = { 'sortie.exit_layer.from': from, 'sortie.exit_layer.to': to, 'sortie.tokens': tokens };
      span('replan', since, at, change, below);
    }
  }
}

/** Begins the span of a request, as a child of the caller's where there is one. */
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
    describe(more) {
      // Its client may have left while the request was still read.
      if (!span.isRecording()) return;
      if (typeof more['error.type'] === 'string') error = more['error.type'];
      span.setAttributes(more);
    },
    end(status) {
      span.setAttribute('http.response.status_code', status);
      if (status >= 400 && error === null) span.setAttribute('error.type', String(status));
      // By the convention of HTTP servers, the caller's own mistakes are no errors of the span.
      if (status >= 500 || (error !== null && status < 400)) span.setStatus({ code: SpanStatusCode.ERROR });
      // The SDK's own end is by Date.now(): for a short request before its start.
      span.end(epoch(monotonicMs()));
    },
  };
}
