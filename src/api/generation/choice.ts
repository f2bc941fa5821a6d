/**
 * One answer to one prompt, from the engine's events to text.
 *
 * Must not know: JSON forms, HTTP.
 */
import type { SequenceSink } from '../../engine/client/engine.js';
import type {
  EndedEvent,
  PlannedEvent,
  PromptEvent,
  RefusedEvent,
  TokenEvent,
  TokenLogprobs,
} from '../../engine/protocol.js';
import { ApiError } from '../errors.js';
import type { Detokenizer } from '../../text/detokenizer.js';
import { StopStrings, type StopList } from '../../text/stop-strings.js';
import { ThoughtReader, type ThoughtTags } from '../../text/thoughts.js';
import { codePointLength } from '../../util/code-points.js';
import { CallReader, type CallPart } from './call-reader.js';
import { engineError, failure } from './engine-errors.js';
import type { PlannedGrammar } from '../params/response-format.js';

export interface ChoiceToken {
  readonly id: number;
  readonly logprobs: TokenLogprobs | null;
  /** Start in the choice's text (an echoed prompt included), in code points. */
  readonly offset: number;
}

/** A new part of an answer: text with the tokens that start in it, or a part of a call, or thoughts. */
export interface Piece {
  readonly text: string;
  readonly tokens: readonly ChoiceToken[];
  /** A part of a call; the text is then empty. */
  readonly call: CallPart | null;
  /** Thoughts; text and call are then empty. Absent: none. */
  readonly reasoning?: string;
}

/** How an answer thinks. */
export interface AnswerThoughts {
  readonly tags: ThoughtTags;
  /** Whether the prompt ends inside of thoughts. */
  readonly isOpen: boolean;
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

export interface ChoiceSpec {
  readonly detokenizer: Detokenizer;
  readonly stops: StopList;
  /** Stop strings apply only after this many tokens. */
  readonly minTokens: number;
  /** Code points of the echoed prompt, at which the offsets of the answer start. */
  readonly echoLength: number;
  /**
   * Whether a sampled end token gets an entry among the tokens, without text. Harnesses that score an echoed prompt
   * plus one token (lm-eval) take the last entry for the generated token.
   */
  readonly showsEndToken: boolean;
  /** The grammar that the engine enforces on the answer. */
  readonly grammar: PlannedGrammar | null;
  /** Absent: the whole answer is text. */
  readonly thoughts?: AnswerThoughts | null;
  /** Estimated quality of an exit layer, for errors. */
  readonly qualityOf?: (layer: number) => number;
}

export interface ChoiceEnd {
  readonly finishReason: FinishReason;
  readonly event: EndedEvent;
}

export interface ChoiceListener {
  /** Passes a piece, which is never empty. */
  delta(piece: Piece): void;
  /** A stop string was found. The listener should cancel the sequence; `finished` follows. */
  stopped(): void;
  finished(end: ChoiceEnd): void;
  /** @param fault text for the log, or null */
  failed(error: ApiError, fault: string | null): void;
}

export class Choice implements SequenceSink {
  readonly #spec: ChoiceSpec;
  readonly #listener: ChoiceListener;
  readonly #stops: StopStrings;
  /** Null if the answer is text only. */
  #calls: CallReader | null;
  /** Null once the answer's own text has begun, or without thoughts. */
  #thoughts: ThoughtReader | null;
  #pending: ChoiceToken[] = [];
  /** Code points decoded and shown so far, echo included. The difference is held back. */
  #decoded: number;
  #shown: number;
  /** The stop string that ended the answer, or null. */
  stopString: string | null = null;
  plan: PlannedEvent | null = null;
  /** Logprobs of the prompt's tokens so far. They arrive in chunks. */
  readonly promptLogprobs: (TokenLogprobs | null)[] = [];
  completionTokens = 0;
  /** Of these tokens, those of thoughts, tags included. */
  reasoningTokens = 0;
  /**
   * When the last of these tokens was drawn. An end token does not count, and the end of an answer may take one more
   * step.
   */
  lastTokenAt: number | null = null;
  /** Start of each token in the text, in code points. */
  readonly offsets: number[] = [];
  /** Tokens by the exit that emitted them. */
  readonly exitLayers = new Map<number, number>();

  constructor(spec: ChoiceSpec, listener: ChoiceListener) {
    this.#spec = spec;
    this.#listener = listener;
    this.#stops = new StopStrings(spec.stops);
    const grammar = spec.grammar?.grammar;
    const { thoughts = null } = spec;
    this.#thoughts = thoughts === null ? null : new ThoughtReader(thoughts.tags, thoughts.isOpen);
    this.#calls = grammar?.kind === 'calls' ? new CallReader(grammar.isOptional || grammar.answer !== undefined) : null;
    this.#decoded = spec.echoLength;
    this.#shown = spec.echoLength;
  }

  get #isStopped(): boolean {
    return this.stopString !== null;
  }

  planned(event: PlannedEvent): void {
    this.plan = event;
  }

  prompt(event: PromptEvent): void {
    this.promptLogprobs.push(...event.logprobs);
  }

  token(event: TokenEvent, at: number): void {
    if (this.#isStopped) return;
    this.completionTokens++;
    this.lastTokenAt = at;
    this.exitLayers.set(event.exit, (this.exitLayers.get(event.exit) ?? 0) + 1);
    this.offsets.push(this.#decoded);
    this.#pending.push({ id: event.token, logprobs: event.logprobs, offset: this.#decoded });
    const piece = this.#spec.detokenizer.push(event.token);
    this.#decoded += codePointLength(piece);
    const text = this.#thoughts === null ? piece : this.#think(this.#thoughts, piece);
    if (text !== null && this.#read(text)) this.#listener.stopped();
  }

  ended(event: EndedEvent): void {
    if (event.reason === 'error') {
      this.#listener.failed(failure(event, this.#spec.grammar), event.error);
    } else if (event.reason === 'cancelled' && !this.#isStopped) {
      this.#fail('draining', 'The server is shutting down and cancelled this request.');
    } else {
      const stopped = this.#isStopped || this.#flush() || event.reason === 'stop';
      const { endToken } = event;
      if (endToken && this.#spec.showsEndToken && !this.#isStopped) {
        const token = { id: endToken.token, logprobs: endToken.logprobs, offset: this.#shown };
        this.#listener.delta({ text: '', tokens: [token], call: null });
      }
      const whole = this.#calls?.isComplete === true ? 'tool_calls' : 'stop';
      this.#listener.finished({ finishReason: stopped ? whole : 'length', event });
    }
  }

  refused(event: RefusedEvent): void {
    const fault = event.reason === 'grammars_lost' ? (event.detail ?? null) : null;
    this.#listener.failed(engineError(event, this.#spec.grammar, this.#spec.qualityOf), fault);
  }

  lost(): void {
    this.#fail('engine_lost', 'The engine exited during this request and restarts.');
  }

  /** Shows the text held back. @returns whether its end completed a stop string */
  #flush(): boolean {
    if (this.#thoughts !== null) {
      // An incomplete character belongs to the thoughts that it cuts.
      const [cut, held] = [this.#thoughts.push(this.#spec.detokenizer.end()), this.#thoughts.end()];
      this.#thoughts = null;
      this.#showReasoning(cut.reasoning + held.reasoning);
      if (this.#read(cut.text + held.text)) return true;
    }
    const rest = this.#calls?.end();
    this.#callParts(rest?.parts ?? []);
    // An incomplete character at the end of a cut call is not part of the call.
    if (rest !== undefined && !this.#calls?.isText) return false;
    const stopped = this.#advance((rest?.text ?? '') + this.#spec.detokenizer.end());
    if (!stopped) this.#show(this.#stops.end(), Infinity);
    return stopped;
  }

  #fail(code: 'engine_lost' | 'draining', message: string): void {
    this.#listener.failed(new ApiError(code, message), null);
  }

  /** Separates thoughts from the answer's own text. @returns the text; null if the token belongs to thoughts */
  #think(reader: ThoughtReader, piece: string): string | null {
    const wasUndecided = reader.isUndecided;
    const { reasoning, text } = reader.push(piece);
    this.#showReasoning(reasoning);
    if (reader.isText) this.#thoughts = null;
    if (reader.isUndecided || (wasUndecided && reader.isText)) return text;
    // Offsets count from the start of the text, which the first token behind the thoughts begins.
    const last = this.#pending.at(-1);
    this.#pending = reader.isText && last !== undefined ? [{ ...last, offset: this.#shown }] : [];
    this.#decoded = this.#shown + codePointLength(text);
    if (reader.isText) return text;
    this.reasoningTokens = this.completionTokens;
    return null;
  }

  #showReasoning(reasoning: string): void {
    if (reasoning !== '') this.#listener.delta({ text: '', tokens: [], call: null, reasoning });
  }

  /** Separates calls from text. @returns whether a stop string was found; stop strings apply to text only */
  #read(text: string): boolean {
    if (this.#calls === null) return this.#advance(text);
    const read = this.#calls.push(text);
    this.#callParts(read.parts);
    if (!this.#calls.isText) return false;
    this.#calls = null;
    return this.#advance(read.text);
  }

  #callParts(parts: readonly CallPart[]): void {
    if (parts.length > 0) this.#pending = [];
    for (const call of parts) this.#listener.delta({ text: '', tokens: [], call });
  }

  /** @returns whether a stop string was found */
  #advance(text: string): boolean {
    if (this.completionTokens < this.#spec.minTokens) {
      this.#show(text);
      return false;
    }
    const scan = this.#stops.push(text);
    this.stopString = scan.stop;
    this.#show(scan.text);
    if (this.#isStopped) this.#pending = [];
    return this.#isStopped;
  }

  /**
   * @param before tokens that start before this offset go out with the text; absent: tokens that start within the text
   */
  #show(text: string, before?: number): void {
    const end = this.#shown + codePointLength(text);
    const out = this.#pending.filter(({ offset }) => offset < (before ?? end));
    if (text === '' && out.length === 0) return;
    this.#pending = this.#pending.slice(out.length);
    this.#shown = end;
    this.#listener.delta({ text, tokens: out, call: null });
  }
}
