/** Caches bindings by key; a binding is made on its first run. */
import type { Binding } from '../runtime/session.js';

export class BindingCache {
  readonly #bindings = new Map<string, Pick<Binding, 'run' | 'dispose'>>();
  readonly #most: number;

  /** @param most bindings to keep: a new one beyond them disposes all, since each holds memory outside JavaScript */
  constructor(most = Infinity) {
    this.#most = most;
  }

  /** Runs the binding of a key, and makes it if the cache lacks it. */
  run(key: string, make: () => Pick<Binding, 'run' | 'dispose'>): void {
    let binding = this.#bindings.get(key);
    if (!binding) {
      if (this.#bindings.size >= this.#most) this.dispose();
      binding = make();
      this.#bindings.set(key, binding);
    }
    binding.run();
  }

  /** Frees all bindings; the cache stays usable. */
  dispose(): void {
    for (const binding of this.#bindings.values()) binding.dispose();
    this.#bindings.clear();
  }
}

/** Bindings to keep if each range of rows may have one: their number grows with the square of the rows. */
export const MAX_RANGES = 128;
