/** The parts of armed nets, which each engine process learns. Must not know: processes. */
import type { ToEngine, PromisedPart } from '../../protocol/index.js';

export class HeldNets {
  readonly #parts = new Map<number, PromisedPart>();
  #last = 0;

  /** @param send to the present engine; a message without one is lost */
  constructor(private readonly send: (message: ToEngine) => void) {}

  /** @returns gives the part back */
  hold(part: PromisedPart): () => void {
    const id = ++this.#last;
    this.#parts.set(id, part);
    this.send({ type: 'net', id, part });
    return () => {
      if (this.#parts.delete(id)) this.send({ type: 'net', id, part: null });
    };
  }

  /** Tells a new engine process all of them. */
  tell(): void {
    for (const [id, part] of this.#parts) this.send({ type: 'net', id, part });
  }
}
