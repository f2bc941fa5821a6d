/** Values by name, of which the least recently learnt ones are forgotten. */
const MOST_NAMES = 4096;

export class Latest<V> {
  /** The oldest one first. */
  readonly #values = new Map<string, V>();

  get(name: string): V | undefined {
    return this.#values.get(name);
  }

  set(name: string, value: V): void {
    this.#values.delete(name);
    this.#values.set(name, value);
    const [oldest] = this.#values.keys();
    if (this.#values.size > MOST_NAMES && oldest !== undefined) this.#values.delete(oldest);
  }
}
