/** Values by name, of which the ones that were set longest ago are forgotten. */
export class Latest<V> {
  /** The oldest one first. */
  readonly #values = new Map<string, V>();

  /** @param most values that are kept */
  constructor(private readonly most: number) {}

  get size(): number {
    return this.#values.size;
  }

  get(name: string): V | undefined {
    return this.#values.get(name);
  }

  set(name: string, value: V): void {
    this.#values.delete(name);
    this.#values.set(name, value);
    const [oldest] = this.#values.keys();
    if (this.#values.size > this.most && oldest !== undefined) this.#values.delete(oldest);
  }

  [Symbol.iterator](): IterableIterator<[string, V]> {
    return this.#values.entries();
  }
}
