/** Bindings by what they bind, made when first asked for. Must not know: what they bind. */
import type { Binding } from '../runtime/session.js';

export class BindingCache {
  readonly #bindings = new Map<string, Pick<Binding, 'run' | 'dispose'>>();

  /** @param most kept at once: past that all are made anew, since each holds memory outside JavaScript */
  constructor(private readonly most = Infinity) {}

  /** Runs the binding of this key. */
  run(key: string, make: () => Pick<Binding, 'run' | 'dispose'>): void {
    let binding = this.#bindings.get(key);
    if (!binding) {
      if (this.#bindings.size >= this.most) this.dispose();
      binding = make();
      this.#bindings.set(key, binding);
    }
    binding.run();
  }

  /** Frees all of them; the cache goes on empty. */
  dispose(): void {
    for (const binding of this.#bindings.values()) binding.dispose();
    this.#bindings.clear();
  }
}

/** How many are kept where there may be one for each range of rows: these grow with the square of the rows. */
export const MAX_RANGES = 128;
