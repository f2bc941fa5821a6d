/**
 * Metrics of sequences and of the engine, from the engine's step messages.
 *
 * Knows: what was asked of each live sequence. Must not know: HTTP, text. Runs after the answers went out.
 */
import type { Engine } from '../engine/engine.js';
import type { Budget, EndedEvent, PlannedEvent, ReadyMessage, StepMessage, TokenEvent } from '../engine/messages.js';
import type { Series } from './series.js';

export interface SequenceFacts {
  readonly arrivedAt: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
  readonly budget: Budget | null;
}

interface Live extends SequenceFacts {
  plan: PlannedEvent | null;
  firstAt: number | null;
  lastAt: number | null;
  lastExit: number | null;
  tokens: number;
}

export class RequestMetrics {
  readonly #live = new Map<string, Live>();

  constructor(private readonly series: Series) {}

  /** @param engine whose events are counted from now on */
  observe(engine: Engine): void {
    engine.on('step', (step) => {
      this.step(step);
    });
    engine.on('ready', (ready) => {
      this.ready(ready);
    });
    engine.on('down', () => {
      this.down();
    });
  }

  /** Announces a sequence before the engine hears of it. */
  begin(id: string, facts: SequenceFacts): void {
    this.#live.set(id, { ...facts, plan: null, firstAt: null, lastAt: null, lastExit: null, tokens: 0 });
  }

  /** Sequences that were announced and have not ended. */
  get live(): number {
    return this.#live.size;
  }

  ready(ready: ReadyMessage): void {
    this.series.engineUp.set(1);
    this.series.engineLoad.set((ready.loadMs + ready.calibrateMs) / 1000);
    this.series.cacheConfig.reset();
    this.series.cacheConfig.set({ block_size: '1', num_gpu_blocks: String(ready.kvTokens) }, 1);
  }

  down(): void {
    const { series } = this;
    series.engineUp.set(0);
    series.engineDown.inc();
    series.failed.inc({ reason: 'engine_lost' }, this.#live.size);
    for (const gauge of [series.running, series.waiting, series.kvUsage, series.kvCached]) gauge.set(0);
    this.#live.clear();
  }

  step(step: StepMessage): void {
    const { series } = this;
    for (const event of step.planned) this.#planned(event);
    for (const event of step.tokens) this.#token(event, step.at);
    for (const { id, reason } of step.refused) {
      if (this.#live.delete(id)) series.failed.inc({ reason });
    }
    for (const event of step.ended) this.#ended(event);
    series.running.set(step.load.running);
    series.waiting.set(step.load.waiting);
    series.kvUsage.set(step.load.kvUsed);
    series.kvCached.set(step.load.kvCached);
    if (step.work === null) return;
    series.steps.observe(step.work.ms / 1000);
    if (step.work.predictedMs > 0) series.stepRatio.observe(step.work.ms / step.work.predictedMs);
    step.work.stageRows.forEach((rows, stage) => {
      series.stageRows.inc({ stage: String(stage) }, rows);
    });
    series.prefilled.inc(step.work.prefillTokens);
    series.caughtUp.inc(step.work.catchUpTokens);
  }

  #planned(event: PlannedEvent): void {
    const { series } = this;
    series.planned.inc({ exit_layer: String(event.exit) });
    series.predictedTtft.observe(event.predictedTtftMs / 1000);
    series.predictedTpot.observe(event.predictedTpotMs / 1000);
    if (!event.feasible) series.infeasible.inc();
    const live = this.#live.get(event.id);
    if (live !== undefined) live.plan = event;
  }

  #token(event: TokenEvent, at: number): void {
    const { series } = this;
    series.generationTokens.inc();
    series.exitTokens.inc({ exit_layer: String(event.exit) });
    const live = this.#live.get(event.id);
    if (live === undefined) return;
    if (live.lastAt !== null) series.itl.observe((at - live.lastAt) / 1000);
    if (live.lastExit !== null && live.lastExit !== event.exit) {
      series.replans.inc({ direction: event.exit > live.lastExit ? 'deeper' : 'shallower' });
    }
    live.firstAt ??= at;
    live.lastAt = at;
    live.lastExit = event.exit;
    live.tokens++;
  }

  #ended(event: EndedEvent): void {
    const { series } = this;
    series.promptTokens.inc(event.promptTokens);
    series.prefixQueries.inc(event.promptTokens);
    series.prefixHits.inc(event.cachedTokens);
    series.preemptions.inc(event.preemptions);
    if (event.reason === 'error') series.failed.inc({ reason: 'error' });
    else series.success.inc({ finished_reason: FINISHED_REASON[event.reason] });
    const live = this.#live.get(event.id);
    if (live === undefined) return;
    this.#live.delete(event.id);
    series.requestPromptTokens.observe(event.promptTokens);
    series.requestGenerationTokens.observe(live.tokens);
    series.requestMaxTokens.observe(live.maxTokens);
    this.#times(live, event);
  }

  #times(live: Live, event: EndedEvent): void {
    const { series } = this;
    const { startedAt, firstTokenAt, endedAt } = event;
    const since = (from: number, to: number): number => Math.max(0, to - from) / 1000;
    series.e2e.observe(since(live.arrivedAt, endedAt));
    if (startedAt !== null) {
      series.queueTime.observe(since(live.arrivedAt, startedAt));
      series.inferenceTime.observe(since(startedAt, endedAt));
    }
    if (firstTokenAt === null) return;
    const ttft = since(live.arrivedAt, firstTokenAt);
    series.ttft.observe(ttft);
    if (startedAt !== null) series.prefillTime.observe(since(startedAt, firstTokenAt));
    const lastAt = live.lastAt ?? endedAt;
    series.decodeTime.observe(since(firstTokenAt, lastAt));
    const tpot = live.tokens > 1 ? since(firstTokenAt, lastAt) / (live.tokens - 1) : null;
    if (tpot !== null) series.tpot.observe(tpot);
    if (live.plan !== null && live.plan.predictedTtftMs > 0) {
      series.ratio.observe((ttft * 1000) / live.plan.predictedTtftMs);
    }
    this.#attainment(live, ttft * 1000, (tpot ?? 0) * 1000, endedAt - live.arrivedAt);
  }

  #attainment({ budget }: Live, ttftMs: number, tpotMs: number, totalMs: number): void {
    if (budget === null) return;
    const { series } = this;
    const missedTtft = ttftMs > (budget.ttftMs ?? Infinity);
    const missedTpot = tpotMs > (budget.tpotMs ?? Infinity);
    if (missedTtft) series.ttftViolation.inc();
    if (missedTpot) series.tpotViolation.inc();
    const missed = missedTtft || missedTpot || totalMs > (budget.totalMs ?? Infinity);
    series.budgets.inc({ outcome: missed ? 'missed' : 'met' });
  }
}

/** vLLM's words. A stop string also ends as a cancel in the engine, so `abort` counts both. */
const FINISHED_REASON = { stop: 'stop', length: 'length', deadline: 'deadline', cancelled: 'abort' } as const;
