/**
 * One answer to one prompt, from the engine's events to text.
 *
 * Knows: tokens, stop strings, what is held back. Must not know: JSON shapes, HTTP.
 */
import type { SequenceSink } from '../engine/engine.js';
import type {
  EndedEvent,
  PlannedEvent,
  PromptEvent,
  RefusedEvent,
  TokenEvent,
  TokenLogprobs,
} from '../engine/messages.js';
import { ApiError } from '../errors.js';
import type { Detokenizer } from '../model/detokenizer.js';
import { StopStrings } from '../model/stop-strings.js';

export interface ChoiceToken {
  readonly id: number;
  readonly logprobs: TokenLogprobs | null;
  /** Where it starts in the choice's text (an echoed prompt included), in UTF-16 units. */
  readonly offset: number;
}

export interface ChoiceSpec {
  readonly detokenizer: Detokenizer;
  readonly stops: readonly string[];
  /** Stop strings are not looked for before that many tokens. */
  readonly minTokens: number;
  /** Length of the echoed prompt, where the answer's offsets start. */
  readonly echoLength: number;
  /**
   * Whether a sampled end token gets an entry among the tokens, without text: harnesses that score an echoed prompt with
   * one token more (lm-eval) take the last entry for the generated one.
   */
  readonly showsEndToken: boolean;
}

export interface ChoiceEnd {
  readonly finishReason: 'stop' | 'length';
  readonly event: EndedEvent;
}

export interface ChoiceListener {
  /** New text, with the tokens that start in it. Either may be empty, not both. */
  delta(text: string, tokens: readonly ChoiceToken[]): void;
  /** A stop string was found: the sequence should be cancelled; `finished` follows. */
  stopped(): void;
  finished(end: ChoiceEnd): void;
  failed(error: ApiError): void;
}

export class Choice implements SequenceSink {
  readonly #stops: StopStrings;
  #pending: ChoiceToken[] = [];
  /** Decoded and shown so far, echo included. The first is ahead by what is held back. */
  #decoded: number;
  #shown: number;
  #stopped = false;
  plan: PlannedEvent | null = null;
  /** Of the prompt's tokens so far: they come chunk by chunk. */
  readonly promptLogprobs: (TokenLogprobs | null)[] = [];
  completionTokens = 0;
  /** Tokens by the exit that emitted them. */
  readonly exitLayers = new Map<number, number>();

  constructor(
    private readonly spec: ChoiceSpec,
    private readonly listener: ChoiceListener,
  ) {
    this.#stops = new StopStrings(spec.stops);
    this.#decoded = spec.echoLength;
    this.#shown = spec.echoLength;
  }

  planned(event: PlannedEvent): void {
    this.plan = event;
  }

  prompt(event: PromptEvent): void {
    this.promptLogprobs.push(...event.logprobs);
  }

  token(event: TokenEvent): void {
    if (this.#stopped) return;
    this.completionTokens++;
    this.exitLayers.set(event.exit, (this.exitLayers.get(event.exit) ?? 0) + 1);
    this.#pending.push({ id: event.token, logprobs: event.logprobs, offset: this.#decoded });
    const text = this.spec.detokenizer.push(event.token);
    this.#decoded += text.length;
    if (this.#advance(text)) this.listener.stopped();
  }

  ended(event: EndedEvent): void {
    if (event.reason === 'error') {
      this.#fail('engine_failed', 'The engine failed on this request.');
    } else if (event.reason === 'cancelled' && !this.#stopped) {
      this.#fail('draining', 'The server is shutting down and stopped this answer.');
    } else {
      const stopped = this.#stopped || this.#flush() || event.reason === 'stop';
      const { endToken } = event;
      if (endToken && this.spec.showsEndToken && !this.#stopped)
        this.listener.delta('', [{ id: endToken.token, logprobs: endToken.logprobs, offset: this.#shown }]);
      this.listener.finished({ finishReason: stopped ? 'stop' : 'length', event });
    }
  }

  refused(event: RefusedEvent): void {
    this.listener.failed(refusal(event));
  }

  lost(): void {
    this.#fail('engine_lost', 'The engine went down during this request and is being started again.');
  }

  /** Shows what was held back. @returns whether its end completed a stop string. */
  #flush(): boolean {
    const stopped = this.#advance(this.spec.detokenizer.end());
    if (!stopped) this.#show(this.#stops.end(), Infinity);
    return stopped;
  }

  #fail(code: 'engine_failed' | 'engine_lost' | 'draining', message: string): void {
    this.listener.failed(new ApiError(code, message));
  }

  /** @returns whether a stop string was found. */
  #advance(text: string): boolean {
    if (this.completionTokens < this.spec.minTokens) {
      this.#show(text);
      return false;
    }
    const scan = this.#stops.push(text);
    this.#stopped = scan.stop !== null;
    this.#show(scan.text, this.#shown + scan.text.length);
    if (this.#stopped) this.#pending = [];
    return this.#stopped;
  }

  /** @param before tokens that start before this offset go out with the text */
  #show(text: string, before = this.#shown + text.length): void {
    const out = this.#pending.filter(({ offset }) => offset < before);
    if (text === '' && out.length === 0) return;
    this.#pending = this.#pending.slice(out.length);
    this.#shown += text.length;
    this.listener.delta(text, out);
  }
}

function refusal(event: RefusedEvent): ApiError {
  switch (event.reason) {
    case 'queue_full':
      return new ApiError('queue_full', 'Too many requests are waiting; try again shortly.');
    case 'grammar': {
      const rule = `response_format must be a JSON schema that can be kept to: ${event.detail ?? 'it can not'}`;
      return new ApiError('invalid_value', rule, 'response_format');
    }
    case 'too_long':
      return new ApiError('context_length_exceeded', 'Prompt and answer are longer than this server can hold.');
    case 'budget_infeasible': {
      const least = event.leastFeasibleMs === null ? null : Math.ceil(event.leastFeasibleMs);
      const hint = least === null ? '' : `; the least feasible now is ${least} ms`;
      return new ApiError('budget_infeasible', `Not even the shallowest plan makes the budget${hint}.`, null, {
        least_feasible_budget_ms: least,
      });
    }
  }
}
