/** Counts the tokens and times of one exchange with an upstream, for allowances, the log and reports. */
import { monotonicMs } from '../util/clock.js';
import { estimatedTokens } from './upstream-body.js';

interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** The part of an answer or a chunk that this file reads. */
interface Counted {
  readonly usage?: Partial<Usage> | null;
}

export class UsageMeter {
  readonly #startedAt = monotonicMs();
  #status: number | null = null;
  #firstTextAt: number | null = null;
  #characters = 0;
  #stated: Usage | null = null;

  /** @param promptTokens an estimate, as long as the upstream states none */
  constructor(private readonly promptTokens: number) {}

  began(status: number): void {
    this.#status = status;
  }

  /** Counts text of the answer. Only content is a first token: thoughts and roles are none. */
  text(characters: number): void {
    if (characters === 0) return;
    this.#firstTextAt ??= monotonicMs();
    this.#characters += characters;
  }

  /** Reads the counts of the upstream, if the value has them. */
  read({ usage }: Counted): void {
    if (typeof usage?.prompt_tokens !== 'number' || typeof usage.completion_tokens !== 'number') return;
    const { prompt_tokens, completion_tokens } = usage;
    this.#stated = { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
  }

  get firstTextAt(): number | null {
    return this.#firstTextAt;
  }

  /** The counts of the upstream, else estimates by the length of the text. */
  get usage(): Usage {
    const completion = estimatedTokens(this.#characters);
    const { promptTokens: prompt } = this;
    return (
      this.#stated ?? {
        prompt_tokens: prompt,
        completion_tokens: completion,
        total_tokens: prompt + completion,
      }
    );
  }

  /** The exchange in the report and in the log. */
  report() {
    const ttft = this.#firstTextAt === null ? null : Math.round(this.#firstTextAt - this.#startedAt);
    return { status: this.#status, ttft_ms: ttft, usage: this.usage, estimated: this.#stated === null };
  }

  /** Tokens that the key pays: none without an answer. */
  get paidTokens(): number {
    return this.#status === 200 ? this.usage.total_tokens : 0;
  }
}
