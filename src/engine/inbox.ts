/**
 * Requests on their way into the core: those with a grammar wait until it is compiled.
 *
 * Knows: the core and grammars. Must not know: processes, steps.
 */
import type { EngineCore } from './core.js';
import { Grammars, type GrammarOptions } from './grammar/grammars.js';
import type { CancelReason, GenerateMessage } from './messages.js';

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
    else void this.#open(request, request.grammar);
  }

  cancel(id: string, reason: CancelReason): void {
    if (this.#opening.has(id)) this.#opening.set(id, reason);
    else this.core.cancel(id, reason);
  }

  async #open(request: GenerateMessage, grammar: string): Promise<void> {
    const { id, stopTokens } = request;
    this.#opening.set(id, null);
    try {
      const constraint = await this.#grammars.open(id, grammar, stopTokens);
      this.core.submit(request, constraint);
    } catch (error) {
      this.core.refuseGrammar(id, error instanceof Error ? error.message : String(error));
    }
    const cancelled = this.#opening.get(id) ?? null;
    this.#opening.delete(id);
    // It has a place now and is ended like any other.
    if (cancelled !== null) this.core.cancel(id, cancelled);
    this.changed();
  }
}
