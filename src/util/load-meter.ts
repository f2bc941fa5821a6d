/**
 * The load of this server for balancers: tokens a second, the share of the engine's time that it needs, and the work
 * that it holds.
 */
import { monotonicMs } from './clock.js';

/** Time constant of all means, seconds: several answers, and fewer than a minute of a changed load. */
const MEAN_S = 8;

export interface Load {
  /** Tokens a second. */
  readonly tokensPerS: number;
  /** Share of the time in which no step would run, with every token at the shallowest exit, 0..1. */
  readonly headroom: number;
  /** Expected tokens that are still to be generated. */
  readonly expectedTokens: number;
  /** Mean time to generate the held tokens at the shallowest exit, the predicted wait included, seconds. */
  readonly backlogS: number;
}

/** A sum whose parts fade. */
class Faded {
  #sum = 0;
  #at: number;

  constructor(at: number) {
    this.#at = at;
  }

  at(now: number): number {
    const sum = this.#sum * Math.exp((this.#at - now) / 1000 / MEAN_S);
    this.#at = now;
    this.#sum = sum;
    return sum;
  }

  add(part: number, now: number): void {
    this.#sum = this.at(now) + part;
  }
}

export class LoadMeter {
  readonly #waitMs: () => number | null;
  readonly #left: () => number;
  readonly #startedAt: number;
  readonly #tokens: Faded;
  /** Time that the engine would have taken with every token at the shallowest exit, seconds. */
  readonly #floorS: Faded;
  /** Backlog times its duration. */
  readonly #backlog: Faded;
  /** Tokens a second of an engine that always works at the shallowest exit; null until measured. */
  #speed: number | null = null;
  #readAt: number;

  /**
   * @param waitMs the predicted wait of a new request; null without a ready engine
   * @param left expected tokens that are still to be generated
   */
  constructor(waitMs: () => number | null, left: () => number, now = monotonicMs()) {
    this.#waitMs = waitMs;
    this.#left = left;
    this.#startedAt = this.#readAt = now;
    [this.#tokens, this.#floorS, this.#backlog] = [new Faded(now), new Faded(now), new Faded(now)];
  }

  /** Counts a step. @param floorMs its time with every token at the shallowest exit. @param now its end */
  step(tokens: number, floorMs: number, now = monotonicMs()): void {
    this.#hold(now);
    this.#tokens.add(tokens, now);
    this.#floorS.add(floorMs / 1000, now);
    const all = this.#tokens.at(now);
    const busyS = this.#floorS.at(now);
    if (busyS > 0 && all >= 1) this.#speed = all / busyS;
  }

  /** @returns null without a ready engine */
  read(now = monotonicMs()): Load | null {
    if (this.#waitMs() === null) return null;
    this.#hold(now);
    // The first means are those of the time since the start.
    const seconds = MEAN_S * (1 - Math.exp((this.#startedAt - now) / 1000 / MEAN_S)) || MEAN_S;
    return {
      tokensPerS: this.#tokens.at(now) / seconds,
      headroom: Math.max(0, 1 - this.#floorS.at(now) / seconds),
      expectedTokens: this.#left(),
      backlogS: this.#backlog.at(now) / seconds,
    };
  }

  /** Adds the present backlog since the last call. */
  #hold(now: number): void {
    const left = this.#speed === null ? 0 : this.#left() / this.#speed;
    const seconds = Math.min(MEAN_S, (now - this.#readAt) / 1000);
    this.#backlog.add(((this.#waitMs() ?? 0) / 1000 + left) * seconds, now);
    this.#readAt = now;
  }
}
