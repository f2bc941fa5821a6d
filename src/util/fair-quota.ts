/**
 * Places that clients share, by dynamic thresholds: a client may hold as many places as stay free. A client alone gets
 * `most` of them, and a new client finds free ones however much the others ask for.
 *
 * Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998, with a factor of 1.
 */
export class FairQuota {
  readonly #held = new Map<string, number>();
  #total = 0;

  /** @param most places of a client alone; all clients together hold less than twice as many */
  constructor(readonly most: number) {}

  /** Places that a client may take in addition. */
  available(client: string): number {
    return Math.max(0, Math.floor((2 * this.most - this.#total - this.held(client)) / 2));
  }

  held(client: string): number {
    return this.#held.get(client) ?? 0;
  }

  /** Takes places. The caller asks for `available` first. */
  acquire(client: string, places: number): void {
    this.#held.set(client, this.held(client) + places);
    this.#total += places;
  }

  release(client: string, places: number): void {
    const left = this.held(client) - places;
    if (left > 0) this.#held.set(client, left);
    else this.#held.delete(client);
    this.#total -= places;
  }
}
