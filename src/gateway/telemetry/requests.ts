/**
 * Metrics of sequences, from the engine's step messages.
 *
 * Must not know: HTTP, text. It runs after the gateway has sent the answers.
 */
import type { Histogram } from 'prom-client';
import type { Engine } from '../engine-client/engine.js';
import type {
  Budget,
  EndedEvent,
  PlannedEvent,
  ReadyMessage,
  RejectedEvent,
  StepMessage,
  TokenEvent,
} from '../../protocol/index.js';
import { monotonicMs } from '../../util/clock.js';
import { startAnswers } from './answer-record.js';
import { EngineMetrics } from './engine-metrics.js';
import { FINISHED_REASON, type Series } from './series.js';

/** The facts of a sequence before the engine gets it. */
export interface SequenceFacts {
  readonly arrivedAt: number;
  readonly promptTokens: number;
  readonly budget: Budget | null;
}

interface Observed {
  readonly arrivedAt: number;
  /** When its last token was drawn; null without a token. */
  readonly lastAt: number | null;
  readonly tokens: number;
}

/** The times of a sequence as its client saw them, in ms; null without a first token, or without a second one. */
export function actualTimes({ arrivedAt, lastAt, tokens }: Observed, { firstTokenAt, endedAt, reason }: EndedEvent) {
  const ttftMs = firstTokenAt === null ? null : Math.max(0, firstTokenAt - arrivedAt);
  const totalMs = Math.max(0, endedAt - arrivedAt);
  return {
    ttftMs,
    /** The wait for the first token. A sequence cut before that token has waited for it all the time. */
    awaitedMs: ttftMs ?? (reason === 'deadline' ? totalMs : null),
    tpotMs: firstTokenAt === null || tokens < 2 ? null : Math.max(0, (lastAt ?? endedAt) - firstTokenAt) / (tokens - 1),
    totalMs,
  };
}

/** A sequence as its client has it. */
export interface Sequence extends SequenceFacts {
  plan: PlannedEvent | null;
  /** The end that the client saw, if it came before the engine's own end event. */
  cut: EndedEvent | null;
  firstAt: number | null;
  lastAt: number | null;
  tokens: number;
  /** Of the last token; the planned one before that. */
  exit: number | undefined;
  exitChanges: number;
  readonly onEnd: OnEnd | undefined;
}

/** Gets a sequence once, at its end. @param end `internal`: the gateway failed to write the answer */
export type OnEnd = (sequence: Sequence, end: EndedEvent | 'engine_lost' | 'internal') => void;

export class RequestMetrics {
  readonly #live = new Map<string, Sequence>();
  readonly #engine: EngineMetrics;
  /** The engine's last prediction of a new request's wait. */
  #wait: { readonly ms: number; readonly at: number } | null = null;

  constructor(private readonly series: Series) {
    this.#engine = new EngineMetrics(series);
    startAnswers(series, { model: '', upstream: null });
  }

  /** Counts the events of this engine. */
  observe(engine: Engine): void {
    engine.on('step', this.step.bind(this));
    engine.on('ready', this.ready.bind(this));
    engine.on('cut', this.cut.bind(this));
    engine.on('down', this.down.bind(this));
  }

  /** Registers a sequence before the engine gets it. */
  begin(id: string, facts: SequenceFacts, onEnd?: OnEnd): void {
    const nothing = { plan: null, cut: null, firstAt: null, lastAt: null, tokens: 0, exit: undefined, exitChanges: 0 };
    this.#live.set(id, { ...facts, ...nothing, onEnd });
  }

  /** The gateway cut the sequence at its deadline. The client has this end, whatever the engine reports later. */
  cut(end: EndedEvent): void {
    const live = this.#live.get(end.id);
    if (live !== undefined) live.cut = end;
  }

  /** The gateway failed to write the answer. Later engine events of the sequence count as work and not as an answer. */
  broken(id: string): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.#live.delete(id);
    this.#lost(live, 'internal');
  }

  /** Counts sequences that were rejected because the engine has no room: they are never registered. */
  full(sequences: number): void {
    this.series.failed.inc({ reason: 'queue_full' }, sequences);
  }

  /** Registered sequences that have not ended. */
  get live(): number {
    return this.#live.size;
  }

  /**
   * Predicted wait of a new request, ms; null without a ready engine. The time without a step counts while a sequence
   * is open: an engine that is stopped predicts nothing.
   */
  get waitMs(): number | null {
    if (this.#wait === null) return null;
    const [oldest] = this.#live.values();
    const silentMs = oldest === undefined ? 0 : monotonicMs() - Math.max(oldest.arrivedAt, this.#wait.at);
    return this.#wait.ms + Math.max(0, silentMs);
  }

  ready(ready: ReadyMessage): void {
    this.#engine.ready(ready);
    this.#wait = { ms: 0, at: monotonicMs() };
  }

  down(): void {
    this.#engine.down();
    this.#wait = null;
    for (const live of this.#live.values()) {
      if (live.cut !== null) this.#answered(live, live.cut);
      else this.#lost(live, 'engine_lost');
    }
    this.#live.clear();
  }

  step(step: StepMessage): void {
    for (const event of step.planned) this.#planned(event);
    for (const event of step.tokens) this.#token(event, step.at);
    for (const event of step.rejected) this.#rejected(event);
    for (const event of step.ended) this.#ended(event);
    this.#engine.step(step);
    this.#wait = { ms: step.load.waitMs, at: step.at };
  }

  #planned(event: PlannedEvent): void {
    if (event.isDryRun === true) return;
    const series = this.series;
    series.planned.inc({ exit_layer: String(event.exit), service_class: event.serviceClass });
    series.depthReasons.inc({ reason: event.reason });
    const live = this.#live.get(event.id);
    if (live !== undefined) Object.assign(live, { plan: event, exit: event.exit });
  }

  #token(event: TokenEvent, at: number): void {
    const series = this.series;
    const live = this.#live.get(event.id);
    // Tokens after the cut are not part of the answer.
    if (live?.cut !== null) return;
    if (live.lastAt !== null) {
      const seconds = (at - live.lastAt) / 1000;
      series.itl.observe(seconds);
      series.exitItl.observe({ exit_layer: String(event.exit) }, seconds);
    }
    if (live.exit !== undefined && live.exit !== event.exit) live.exitChanges++;
    live.exit = event.exit;
    live.firstAt ??= at;
    live.lastAt = at;
    live.tokens++;
  }

  #rejected({ id, reason }: RejectedEvent): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.#live.delete(id);
    if (live.cut !== null) this.#answered(live, live.cut);
    else this.series.failed.inc({ reason });
  }

  #ended(event: EndedEvent): void {
    if (event.isDryRun === true) return;
    const series = this.series;
    const live = this.#live.get(event.id);
    series.promptTokens.inc(event.promptTokens);
    series.prefixQueries.inc(event.promptTokens);
    series.prefixHits.inc(event.cachedTokens);
    series.preemptions.inc(event.preemptions);
    if (live === undefined) return;
    this.#live.delete(event.id);
    // The engine knows the start and the use of the sequence, even if its end event comes after the cut.
    const { reason, firstTokenAt, endedAt } = live.cut ?? event;
    this.#answered(live, { ...event, reason, firstTokenAt, endedAt });
  }

  #lost(live: Sequence, reason: 'engine_lost' | 'internal'): void {
    this.series.failed.inc({ reason });
    live.onEnd?.(live, reason);
  }

  /** Counts an answer by the end that its client saw. */
  #answered(live: Sequence, event: EndedEvent): void {
    live.onEnd?.(live, event);
    const series = this.series;
    const { reason, startedAt, firstTokenAt, endedAt } = event;
    if (reason === 'error') series.failed.inc({ reason });
    else series.success.inc({ finished_reason: FINISHED_REASON[reason] });
    series.requestPromptTokens.observe(event.promptTokens);
    series.requestGenerationTokens.observe(live.tokens);
    const times = actualTimes(live, event);
    observe(series.e2e, times.totalMs);
    observe(series.ttft, times.ttftMs);
    observe(series.tpot, times.tpotMs);
    observe(series.queueTime, since(live.arrivedAt, startedAt));
    observe(series.prefillTime, since(startedAt, firstTokenAt));
    observe(series.decodeTime, since(firstTokenAt, live.lastAt ?? endedAt));
    if (reason !== 'cancelled') this.#predicted(live, times);
  }

  #predicted({ plan }: Sequence, { ttftMs, tpotMs, totalMs }: Times): void {
    if (plan === null || ttftMs === null) return;
    const ratios = {
      ttft: ttftMs / plan.predictedTtftMs,
      tpot: (tpotMs ?? NaN) / plan.predictedTpotMs,
      total: totalMs / plan.predictedMs,
    };
    // A budget may be as small as 5e-324 ms, and bounds the prediction of its own answer.
    for (const [time, ratio] of Object.entries(ratios))
      if (Number.isFinite(ratio)) this.series.ratio.observe({ time }, ratio);
  }
}

type Times = ReturnType<typeof actualTimes>;

/** Milliseconds; null without one of the instants. */
const since = (from: number | null, to: number | null): number | null =>
  from === null || to === null ? null : Math.max(0, to - from);

function observe(histogram: Histogram, ms: number | null): void {
  if (ms !== null) histogram.observe(ms / 1000);
}
