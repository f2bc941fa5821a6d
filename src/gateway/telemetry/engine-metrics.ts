/**
 * Metrics of the engine: whether it runs, its load, the work of its steps.
 *
 * Must not know: requests, HTTP.
 */
import type { ReadyMessage, StepMessage, StepWork, TokenEvent } from '../../protocol/index.js';
import { SERVICE_CLASSES, startAtZero, type Series } from './series.js';

/**
 * Tokens of one block in `cache_config_info`. The engine counts KV memory in tokens, but llm-d's picker assumes blocks
 * of at least 64. With blocks of 1 it would assume 64 times the capacity.
 */
const CACHE_BLOCK_TOKENS = 64;

export class EngineMetrics {
  /** Exit layers as label values, in the order of the engine's exits. */
  #exits: readonly string[] = [];
  /** Exits of all engines since the start. */
  readonly #seenExits = new Set<string>();

  constructor(private readonly series: Series) {}

  ready({ kvTokens, exits }: ReadyMessage): void {
    const { series } = this;
    series.engineUp.set(1);
    series.cacheConfig.reset();
    const blocks = Math.floor(kvTokens / CACHE_BLOCK_TOKENS);
    series.cacheConfig.set({ block_size: String(CACHE_BLOCK_TOKENS), num_gpu_blocks: String(blocks) }, 1);
    this.#exits = exits.map(String);
    // Exits of an earlier engine go on: a histogram that starts at 0 again would lose its counts.
    const exit_layer = this.#exits.filter((exit) => !this.#seenExits.has(exit));
    for (const exit of exit_layer) this.#seenExits.add(exit);
    for (const metric of [series.exitTokens, series.exitTime, series.exitItl]) startAtZero(metric, { exit_layer });
    startAtZero(series.planned, { exit_layer, service_class: SERVICE_CLASSES });
  }

  down(): void {
    const { series } = this;
    series.engineDown.inc();
    for (const gauge of [series.engineUp, series.running, series.waiting, series.kvUsage, series.kvCached])
      gauge.set(0);
  }

  /** Counts the load after a step, and the work of the step. */
  step({ load, work, tokens }: StepMessage): void {
    const { series } = this;
    series.running.set(load.running);
    series.waiting.set(load.waiting);
    series.kvUsage.set(load.kvUsed);
    series.kvCached.set(load.kvCached);
    this.#count(tokens);
    if (work !== null) this.#worked(work);
  }

  #worked(work: StepWork): void {
    const { series } = this;
    series.steps.observe(work.ms / 1000);
    if (work.predictedMs > 0) series.stepRatio.observe(work.cycleMs / work.predictedMs);
    for (const [part, ms] of Object.entries(work.partMs)) series.stepParts.observe({ part }, ms / 1000);
    series.slowdown.set(work.slowdown);
    work.exitMs.forEach((ms, exit) => {
      if (ms > 0) series.exitTime.inc({ exit_layer: this.#exits[exit] ?? 'unknown' }, ms / 1000);
    });
    series.prefilled.inc(work.prefillTokens);
    series.caughtUp.inc(work.catchUpTokens);
    if (work.draft === undefined) return;
    const { source, drafted, accepted } = work.draft;
    series.draftTokens.inc({ source }, drafted);
    series.acceptedTokens.inc({ source }, accepted);
  }

  /** Adds equal tokens of a step together: each increment of a counter with labels takes a microsecond. */
  #count(tokens: readonly TokenEvent[]): void {
    const counts = new Map<number, number>();
    for (const { exit } of tokens) counts.set(exit, (counts.get(exit) ?? 0) + 1);
    this.series.generationTokens.inc(tokens.length);
    for (const [exit, count] of counts) {
      this.series.exitTokens.inc({ exit_layer: String(exit) }, count);
      this.series.exitLayers.inc(exit * count);
    }
  }
}
