/** Counts the tokens and times of one exchange with an upstream, for allowances, the log, reports and metrics. */
import type { UpstreamMetrics } from '../telemetry/upstream-metrics.js';
import { monotonicMs } from '../../util/clock.js';
import type { Ending } from '../../protocol/outcome.js';
import { present } from '../../util/present.js';
import { type Counts, countsOf, type LandingTrigger } from './landed.js';
import { estimatedTokens } from './upstream-body.js';

/** The part of an answer or a chunk that this file reads. */
interface Counted {
  readonly usage?: Partial<Counts> | null;
}

/** The end of an answer that its upstream did not end. */
interface Broken {
  readonly by: LandingTrigger;
  readonly ending: Ending;
}

export class UsageMeter {
  readonly #startedAt = monotonicMs();
  #status: number | null = null;
  #firstTextAt: number | null = null;
  #lastTextAt: number | null = null;
  #broken: Broken | null = null;
  #characters = 0;
  #stated: Counts | null = null;
  #localTokens = 0;

  /** @param promptTokens an estimate, as long as the upstream states none */
  constructor(
    private readonly promptTokens: number,
    private readonly metrics: Pick<UpstreamMetrics, 'firstContent'>,
  ) {}

  began(status: number): void {
    this.#status = status;
  }

  /** Counts text of the answer. Only content is a first token: thoughts and roles are none. */
  text(characters: number): void {
    if (characters === 0) return;
    const now = monotonicMs();
    if (this.#lastTextAt === null) this.metrics.firstContent(now - this.#startedAt);
    this.#firstTextAt ??= now;
    this.#lastTextAt = now;
    this.#characters += characters;
  }

  /** The upstream did not end its answer. @param ending as the client sees it; absent: in the text so far */
  broke(by: LandingTrigger, ending: Ending = { end: 'cut', isEmpty: this.#characters === 0 }): void {
    this.#broken ??= { by, ending };
  }

  /** Null: the upstream ended its answer, or had none. */
  get broken(): Broken | null {
    return this.#broken;
  }

  /** Of the response; null without one. */
  get status(): number | null {
    return this.#status;
  }

  /** From the request to the first content, ms; null without content. */
  get ttftMs(): number | null {
    return this.#firstTextAt === null ? null : this.#firstTextAt - this.#startedAt;
  }

  /** Reads the counts of the upstream, if the value has them. */
  read({ usage }: Counted): void {
    if (typeof usage?.prompt_tokens !== 'number' || typeof usage.completion_tokens !== 'number') return;
    this.#stated = countsOf(usage.prompt_tokens, usage.completion_tokens);
  }

  get firstTextAt(): number | null {
    return this.#firstTextAt;
  }

  /** The counts of the upstream, else estimates by the length of the text. */
  get usage(): Counts {
    return this.#stated ?? countsOf(this.promptTokens, estimatedTokens(this.#characters));
  }

  /** The exchange in the report and in the log. */
  report() {
    const ttft = this.ttftMs;
    const ttft_ms = ttft === null ? null : Math.round(ttft);
    return { ...present({ status: this.#status, ttft_ms }), usage: this.usage, estimated: this.#stated === null };
  }

  /** The local model answered in place of the upstream. @param tokens of prompt and answer */
  standIn(tokens: number): void {
    this.#localTokens = tokens;
  }

  /** Tokens that the key pays: none without an answer. */
  get paidTokens(): number {
    return (this.#status === 200 ? this.usage.total_tokens : 0) + this.#localTokens;
  }
}
