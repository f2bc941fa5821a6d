/**
 * Requests on their way into the core: those with a grammar wait until it is compiled.
 *
 * Knows: the core and grammars. Must not know: processes, steps.
 */
import type { EngineCore } from './core.js';
import { GrammarError, Grammars, type GrammarOptions } from './grammar/grammars.js';
import type { CancelReason, GenerateMessage, Grammar } from './messages.js';

export class Inbox {
  readonly #grammars: Grammars;
  /** Requests whose grammars are being compiled, and whether they were cancelled meanwhile. */
  readonly #opening = new Map<string, CancelReason | null>();

  /** @param changed called when the core has something new to do */
  constructor(
    private readonly core: EngineCore,
    options: GrammarOptions,
    private readonly changed: () => void,
  ) {
    this.#grammars = new Grammars(options, changed);
  }

  generate(request: GenerateMessage): void {
    if (request.grammar == null || request.maxTokens === 0) this.core.submit(request);
    else if (this.core.isFull(this.#opening.size)) this.core.refuse({ id: request.id, reason: 'queue_full' });
    else void this.#open(request, request.grammar);
  }

  /** Requests that wait here and not in the core's queue. */
  get waiting(): number {
    return this.#opening.size;
  }

  cancel(id: string, reason: CancelReason): void {
    if (this.#opening.has(id)) this.#opening.set(id, reason);
    else this.core.cancel(id, reason);
  }

  async #open(request: GenerateMessage, grammar: Grammar): Promise<void> {
    const { id, stopTokens } = request;
    this.#opening.set(id, null);
    try {
      const constraint = await this.#grammars.open(id, grammar, stopTokens);
      this.core.submit(request, constraint);
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      if (error instanceof GrammarError) this.core.refuse({ id, reason: 'grammar', detail, part: error.part });
      else this.core.refuse({ id, reason: 'grammars_lost', detail });
    }
    const cancelled = this.#opening.get(id) ?? null;
    this.#opening.delete(id);
    // It has a place now and is ended like any other.
    if (cancelled !== null) this.core.cancel(id, cancelled);
    this.changed();
  }
}
