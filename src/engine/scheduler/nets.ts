/**
 * The sequences of nets: each sleeps until its latest start, or until the gateway wakes it. The scheduler counts it as
 * a promise meanwhile (promise.ts). It has no slot, but for the steps of an idle engine that prefill its prompt.
 *
 * Must not know: how a latest start is found.
 */
import { type ChunkLimits, type ChunkWork, chunkOf } from './chunks.js';
import type { CostModel } from './cost/model.js';
import { plannedChunk, type Policy } from './policy.js';
import type { Sequence } from './sequence.js';
import type { SlotManager } from './slot-manager.js';

/** The latest starts are as of any arrival or end, and no older, ms. */
const STARTS_MS = 50;

interface Limits extends Pick<ChunkLimits, 'prefillChunk'> {
  readonly policy: Policy;
}

export class Nets {
  /** Their latest starts. */
  readonly #asleep = new Map<Sequence, number>();
  #startsAt = -Infinity;
  /** The net whose prompt an idle step prefills. */
  prompt: Sequence | null = null;

  /** The sleeping ones, in order of arrival. */
  get all(): readonly Sequence[] {
    return [...this.#asleep.keys()];
  }

  get count(): number {
    return this.#asleep.size;
  }

  /** Nets that the next step wakes or ends, whatever the time is. */
  get called(): number {
    return this.all.filter(({ isAsleep, ending }) => !isAsleep || ending !== null).length;
  }

  /** Instant of the next latest start; Infinity without a net. */
  get wakesAt(): number {
    return Math.min(...this.#asleep.values());
  }

  find(id: string): Sequence | undefined {
    return this.all.find((each) => each.id === id);
  }

  /** Sets the latest start of a net, which sleeps from here on. */
  sleep(sequence: Sequence, latestStart: number): void {
    this.#asleep.set(sequence, latestStart);
  }

  /** Whether the latest starts are to be found again. @param hasNews a request came or went */
  isStale(now: number, hasNews: boolean): boolean {
    return this.count > 0 && (hasNews || now - this.#startsAt > STARTS_MS);
  }

  /** Sets all latest starts. */
  setStarts(starts: ReadonlyMap<Sequence, number>, now: number): void {
    this.#startsAt = now;
    for (const [sequence, latestStart] of starts) if (sequence.isAsleep) this.sleep(sequence, latestStart);
  }

  /** The next step wakes it. An id of no net is ignored. */
  wake(id: string): void {
    const sequence = this.find(id);
    if (sequence !== undefined) sequence.isAsleep = false;
  }

  /** Takes the nets that wake at an instant. */
  takeDue(now: number): Sequence[] {
    const isDue = ([{ isAsleep, ending }, latestStart]: readonly [Sequence, number]): boolean =>
      ending === null && (!isAsleep || latestStart <= now);
    const due = [...this.#asleep].filter(isDue).map(([sequence]) => sequence);
    for (const sequence of due) {
      sequence.isAsleep = false;
      this.remove(sequence);
    }
    return due;
  }

  remove(sequence: Sequence): void {
    this.#asleep.delete(sequence);
    if (this.prompt === sequence) this.prompt = null;
  }

  /**
   * The next chunk of the prompt of the net that starts first, for a step of an idle engine. At full depth, since every
   * exit reads its keys. Each prefilled prompt keeps a slot.
   * @returns null where the step has other work
   */
  takeChunk(now: number, slots: SlotManager, limits: Limits, model: CostModel): ChunkWork[] | null {
    const { policy, prefillChunk } = limits;
    this.#choosePrompt(now, slots, policy);
    const { prompt } = this;
    if (prompt === null || slots.running.length + slots.waiting.length > 0) return null;
    slots.lend(prompt);
    const chunk = chunkOf(prompt, Math.min(plannedChunk(policy), prefillChunk), model);
    prompt.isPrefilled = chunk.end >= prompt.tokens.length - 1;
    this.#choosePrompt(now, slots, policy);
    return chunk.positions > 0 ? [chunk] : [];
  }

  /** The slots that prompts were prefilled in stay as prefixes. */
  takeBack(slots: SlotManager): void {
    for (const net of this.all) if (net.slot !== null) slots.takeBack(net);
  }

  #choosePrompt(now: number, { limits: { maxRunning, prefixReuse } }: SlotManager, { maxStallMs }: Policy): void {
    const later = [...this.#asleep].filter(([{ isAsleep, ending }]) => isAsleep && ending === null);
    const next = later.filter(([{ isPrefilled }]) => !isPrefilled);
    const hasSlot = prefixReuse && later.length - next.length < maxRunning;
    const [first] = next.sort((a, b) => a[1] - b[1]);
    // A net that starts within two chunks has no time for the prompt of another one.
    this.prompt = hasSlot && this.wakesAt > now + 2 * maxStallMs ? (first?.[0] ?? null) : null;
  }
}
