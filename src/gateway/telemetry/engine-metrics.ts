/**
 * Metrics of the engine: whether it runs, its load, the work of its steps.
 *
 * Must not know: requests, HTTP.
 */
import type { ReadyMessage, StepMessage, StepWork, TokenEvent } from '../../protocol/index.js';
import { initializeExits, WAITING_REASONS } from './labels.js';
import type { Series } from './series.js';

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
  readonly #series: Series;

  constructor(series: Series) {
    this.#series = series;
  }

  ready(ready: ReadyMessage): void {
    const series = this.#series;
    series.engineUp.set(1);
    series.engineLoad.set((ready.loadMs + ready.calibrateMs) / 1000);
    this.#device(ready);
    series.cacheConfig.reset();
    const blocks = Math.floor(ready.kvTokens / CACHE_BLOCK_TOKENS);
    series.cacheConfig.set({ block_size: String(CACHE_BLOCK_TOKENS), num_gpu_blocks: String(blocks) }, 1);
    this.#exits = ready.exits.map(String);
    initializeExits(series, this.#exits, this.#seenExits);
    for (const exit of this.#exits) this.#seenExits.add(exit);
  }

  /** The CPU counts as one card without a name. */
  #device({ device, devices }: ReadyMessage): void {
    const { device: info, deviceMemory, deviceFree } = this.#series;
    for (const gauge of [info, deviceMemory, deviceFree]) gauge.reset();
    if (devices.length === 0) info.set({ device, card: '', name: '', driver: '' }, 1);
    for (const { index, name, driver, memoryBytes, freeBytes } of devices) {
      const card = String(index);
      info.set({ device, card, name, driver: driver ?? '' }, 1);
      if (memoryBytes !== null) deviceMemory.set({ card }, memoryBytes);
      if (freeBytes !== null) deviceFree.set({ card }, freeBytes);
    }
  }

  down(): void {
    const series = this.#series;
    series.engineUp.set(0);
    series.engineDown.inc();
    for (const gauge of [series.running, series.waiting, series.kvUsage, series.kvCached]) gauge.set(0);
    for (const reason of WAITING_REASONS) series.waitingBy.set({ reason }, 0);
  }

  /** Counts the load after a step, and the work of the step. */
  step({ load, work, tokens }: StepMessage): void {
    const series = this.#series;
    series.running.set(load.running);
    series.waiting.set(load.waiting);
    series.waitingBy.set({ reason: 'capacity' }, load.waiting - load.deferred);
    series.waitingBy.set({ reason: 'deferred' }, load.deferred);
    series.kvUsage.set(load.kvUsed);
    series.kvCached.set(load.kvCached);
    if (work === null) return;
    series.iterationTokens.observe(work.prefillTokens + tokens.length);
    this.#worked(work);
  }

  #worked(work: StepWork): void {
    const series = this.#series;
    series.steps.observe(work.ms / 1000);
    if (work.predictedMs > 0) series.stepRatio.observe(work.cycleMs / work.predictedMs);
    for (const [part, ms] of Object.entries(work.partMs)) series.stepParts.observe({ part }, ms / 1000);
    series.slowdown.set(work.slowdown);
    work.stageRows.forEach((rows, stage) => {
      series.stageRows.inc({ stage: String(stage) }, rows);
    });
    work.exitMs.forEach((ms, exit) => {
      if (ms > 0) series.exitTime.inc({ exit_layer: this.#exits[exit] ?? 'unknown' }, ms / 1000);
    });
    for (const { unit, mode, kernel } of work.kernelRuns) series.kernelRuns.inc({ unit, mode, kernel });
    series.prefilled.inc(work.prefillTokens);
    series.caughtUp.inc(work.catchUpTokens);
    if (work.draft === undefined) return;
    const { source, drafted, accepted } = work.draft;
    series.drafts.inc({ source });
    series.draftTokens.inc({ source }, drafted);
    series.acceptedTokens.inc({ source }, accepted);
    for (let position = 0; position < accepted; position++) series.acceptedAt.inc({ position: String(position) });
  }
}

/**
 * Counts the tokens of a step. It adds equal tokens together: each increment of a counter with labels takes a
 * microsecond.
 * @param plannedOf the exit planned at admission; null for tokens that are not part of an answer
 */
export function countTokens(
  series: Pick<Series, 'generationTokens' | 'exitTokens' | 'exitLayers' | 'plannedExitTokens'>,
  tokens: readonly TokenEvent[],
  plannedOf: (event: TokenEvent) => number | null,
): void {
  const counts = new Map<string, { readonly exit: number; readonly planned: number | null; tokens: number }>();
  for (const event of tokens) {
    const { exit } = event;
    const planned = plannedOf(event);
    const key = `${exit} ${planned ?? ''}`;
    const count = counts.get(key) ?? { exit, planned, tokens: 0 };
    count.tokens++;
    counts.set(key, count);
  }
  series.generationTokens.inc(tokens.length);
  for (const { exit, planned, tokens: count } of counts.values()) {
    const exit_layer = String(exit);
    series.exitTokens.inc({ exit_layer }, count);
    series.exitLayers.inc(exit * count);
    if (planned !== null) series.plannedExitTokens.inc({ planned_exit_layer: String(planned), exit_layer }, count);
  }
}
