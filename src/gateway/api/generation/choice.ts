/**
 * One answer to one prompt, from the engine's events to text.
 *
 * Lengths of text in code points.
 *
 * Must not know: JSON forms, HTTP.
 */
import type { EndedEvent, PlannedEvent, TokenEvent, TokenLogprobs } from '../../../protocol/index.js';
import type { Detokenizer } from '../../text/tokenizer.js';
import { OpenText } from '../../text/sentences/sentence-ends.js';
import { codePointLength } from '../../text/code-points.js';
import { StopStrings } from '../../text/stop-strings.js';
import { ThoughtReader, type ThoughtTags } from '../../text/thoughts.js';
import type { Ending, Outcome } from '../../../protocol/outcome.js';
import { CallReader, type CallPart } from './call-reader.js';
import type { PlannedGrammar } from '../params/structured-outputs.js';

export interface ChoiceToken {
  readonly id: number;
  readonly logprobs: TokenLogprobs | null;
  /** Start in the choice's text (an echoed prompt included), in code points. */
  readonly offset: number;
}

/** Fields of an upstream's chunk that this server does not know. */
export interface OtherFields {
  /** Of the delta, or of the message. */
  readonly delta: Readonly<Record<string, unknown>>;
  /** Of the choice. */
  readonly choice: Readonly<Record<string, unknown>>;
}

/** A new part of a choice: text with the tokens that start in it, or a part of a call, or thoughts. Never empty. */
export interface Delta {
  /** Index of the choice. */
  readonly index: number;
  text: string;
  readonly tokens: ChoiceToken[];
  /** A part of a call; the text is then empty. */
  readonly call: CallPart | null;
  /** Text and call are then empty. */
  thoughts: string;
  /** Absent: none. */
  readonly more?: OtherFields;
}

/** A delta for a text, a call or thoughts. */
export const emptyDelta = (index: number): Delta => ({ index, text: '', tokens: [], call: null, thoughts: '' });

/** The end of a choice, which comes after its deltas. */
export interface ChoiceEnd {
  readonly index: number;
  readonly finishReason: FinishReason;
  /** Whether it is the last piece of the answer. */
  readonly isLast: boolean;
  readonly more?: OtherFields;
}

export type Piece = Delta | ChoiceEnd;

/** How an answer thinks. */
export interface AnswerThoughts {
  readonly tags: ThoughtTags;
  /** Whether the prompt ends inside of thoughts. */
  readonly isOpen: boolean;
}

export type FinishReason = 'stop' | 'length' | 'tool_calls' | 'content_filter';

export interface ChoiceSpec {
  readonly detokenizer: Detokenizer;
  readonly stops: readonly string[];
  /** Stop strings apply only after this many tokens. */
  readonly minTokens: number;
  /** 0 for the scores of a prompt alone; absent: any. */
  readonly maxTokens?: number;
  /** Code points of the echoed prompt, at which the offsets of the answer start. */
  readonly echoLength: number;
  /**
   * Whether a sampled end token gets an entry among the tokens, without text. Harnesses that score an echoed prompt
   * plus one token (lm-eval) take the last entry for the generated token.
   */
  readonly showsEndToken: boolean;
  /** The grammar that the engine enforces on the answer. */
  readonly grammar: PlannedGrammar | null;
  /** Whether deltas have their tokens; absent: yes. */
  readonly keepsTokens?: boolean;
  /** Whether the instant of the first sentence counts. */
  readonly seeksSentence?: boolean;
  /** Of a text that may land: its code waits for whole lines from here on, and always if guaranteed. Absent: none. */
  readonly opensAt?: number;
  /** All of that text waits for its end. */
  readonly isWhole?: boolean;
  /** Absent: the whole answer is text. */
  readonly thoughts?: AnswerThoughts | null;
}

/** Longest delta: its JSON is a string, and a slow reader's delta grows. */
const MOST_TOKENS = 128;
const MOST_UNITS = 16_384;

export class Choice {
  readonly #index: number;
  readonly #spec: ChoiceSpec;
  /** Deltas that the answer's reader has not taken. */
  readonly #deltas: Delta[] = [];
  readonly #stops: StopStrings;
  /** Null where no text waits, and no sentence counts. */
  readonly #text: OpenText | null;
  /** Null if the answer is text only. */
  #calls: CallReader | null;
  /** Null once the answer's own text has begun, or without thoughts. */
  #thoughts: ThoughtReader | null;
  #pending: ChoiceToken[] = [];
  /** Code points decoded and shown so far, echo included. The difference is held back. */
  #decoded: number;
  #shown: number;
  /** Null while the choice runs. */
  finishReason: FinishReason | null = null;
  /** The stop string that ended the answer, or null. */
  stopString: string | null = null;
  plan: PlannedEvent | null = null;
  /** Null while it runs. */
  end: EndedEvent | null = null;
  outcome: Outcome | null = null;
  /** Logprobs of the prompt's tokens so far. They arrive in chunks. */
  readonly promptLogprobs: (TokenLogprobs | null)[] = [];
  completionTokens = 0;
  /** When its first sentence was whole, or all of an answer without one; null so far, or if it does not count. */
  sentenceAt: number | null = null;
  /** Whether it has text other than blanks, thoughts or a call. */
  #hasOutput = false;
  /** It ended at its deadline, and its text at the last whole sentence before. */
  #isBack = false;
  /** Of these tokens, those of thoughts, tags included. */
  thoughtTokens = 0;
  /**
   * When the last of these tokens was drawn. An end token does not count, and the end of an answer may take one more
   * step.
   */
  lastTokenAt: number | null = null;
  /** Tokens by the exit that emitted them. */
  readonly exitLayers = new Map<number, number>();

  constructor(index: number, spec: ChoiceSpec) {
    this.#index = index;
    this.#spec = spec;
    this.#stops = new StopStrings(spec.stops);
    this.#text = spec.opensAt !== undefined || spec.seeksSentence === true ? new OpenText() : null;
    const grammar = spec.grammar?.grammar;
    const { thoughts = null } = spec;
    this.#thoughts = thoughts === null ? null : new ThoughtReader(thoughts.tags, thoughts.isOpen);
    this.#calls = grammar?.kind === 'calls' ? new CallReader(grammar.isOptional || grammar.answer !== undefined) : null;
    this.#decoded = spec.echoLength;
    this.#shown = spec.echoLength;
  }

  /** Whether a stop string has ended the text. */
  get isStopped(): boolean {
    return this.stopString !== null;
  }

  /** Moves the deltas since the last call to the end of a list. */
  take(pieces: Piece[]): void {
    for (const delta of this.#deltas) pieces.push(delta);
    this.#deltas.length = 0;
  }

  /** @returns whether the token completes a stop string: its sequence need not go on */
  token(event: TokenEvent, at: number): boolean {
    if (this.isStopped) return false;
    this.completionTokens++;
    this.lastTokenAt = at;
    this.exitLayers.set(event.exit, (this.exitLayers.get(event.exit) ?? 0) + 1);
    this.#pending.push({ id: event.token, logprobs: event.logprobs, offset: this.#decoded });
    const piece = this.#spec.detokenizer.push(event.token);
    this.#decoded += codePointLength(piece);
    const text = this.#thoughts === null ? piece : this.#afterThoughts(this.#thoughts, piece);
    return text !== null && this.#read(text);
  }

  /** Shows the text held back. @returns why the choice ended; `length` for an end that its budget forced */
  ended({ reason, endToken, landed }: Pick<EndedEvent, 'reason' | 'endToken' | 'landed'>): FinishReason {
    const isOwn = reason === 'stop' && (landed === undefined || landed.isOwn === true);
    const isStop = this.isStopped || this.#flush(reason) || isOwn;
    if (endToken && this.#spec.showsEndToken && !this.isStopped) {
      const token = { id: endToken.token, logprobs: endToken.logprobs, offset: this.#shown };
      this.#add({ text: '', tokens: [token] });
    }
    if (this.#spec.seeksSentence === true) this.sentenceAt ??= this.lastTokenAt;
    const whole = this.#calls?.isComplete === true ? 'tool_calls' : 'stop';
    this.finishReason = isStop ? whole : 'length';
    return this.finishReason;
  }

  /** How the choice ended. A stop string ends it as its request asks. */
  ending({ reason, landed }: Pick<EndedEvent, 'reason' | 'landed'>): Ending {
    if (this.isStopped) return { end: 'whole' };
    if (reason === 'deadline') return { end: this.#isBack ? 'landed' : 'cut', isEmpty: !this.#hasOutput };
    return { end: landed === undefined ? 'whole' : 'landed', isEmpty: !this.#hasOutput && this.#spec.maxTokens !== 0 };
  }

  /** Shows the text held back. @returns whether its end completed a stop string */
  #flush(reason: EndedEvent['reason']): boolean {
    if (this.#thoughts !== null) {
      // An incomplete character belongs to the thoughts that it cuts.
      const cut = this.#thoughts.push(this.#spec.detokenizer.end());
      const held = this.#thoughts.end();
      this.#thoughts = null;
      this.#showThoughts(cut.thoughts + held.thoughts);
      if (this.#read(cut.text + held.text)) return true;
    }
    const rest = this.#calls?.end();
    this.#callParts(rest?.parts ?? []);
    // An incomplete character at the end of a cut call is not part of the call.
    if (rest !== undefined && !this.#calls?.isText) return false;
    const stopped = this.#advance((rest?.text ?? '') + this.#spec.detokenizer.end());
    if (stopped) return true;
    const out = this.#out(this.#stops.end());
    const back = reason === 'deadline' && this.#mayLand ? (this.#text?.back() ?? null) : null;
    const text = out + (back?.text ?? this.#text?.push('', 'none') ?? '');
    this.#isBack = back !== null;
    this.#show(text + (back?.closing ?? ''), this.#isBack ? this.#shown + codePointLength(text) : Infinity);
    return false;
  }

  /** Separates thoughts from the answer's own text. @returns the text; null if the token belongs to thoughts */
  #afterThoughts(reader: ThoughtReader, piece: string): string | null {
    const wasUndecided = reader.isUndecided;
    const { thoughts, text } = reader.push(piece);
    this.#showThoughts(thoughts);
    if (reader.isText) this.#thoughts = null;
    if (reader.isUndecided || (wasUndecided && reader.isText)) return text;
    // Logprob offsets restart at the first token after the thoughts.
    const last = this.#pending.at(-1);
    this.#pending = reader.isText && last !== undefined ? [{ ...last, offset: this.#shown }] : [];
    this.#decoded = this.#shown + codePointLength(text);
    if (reader.isText) return text;
    this.thoughtTokens = this.completionTokens;
    return null;
  }

  #showThoughts(thoughts: string): void {
    if (thoughts !== '') this.#add({ thoughts });
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
    for (const call of parts) this.#add({ call });
  }

  /** @returns whether a stop string was found */
  #advance(text: string): boolean {
    if (this.completionTokens < this.#spec.minTokens) {
      this.#show(this.#out(text));
      return false;
    }
    const scan = this.#stops.push(text);
    this.stopString = scan.stop;
    this.#show(this.#out(scan.text));
    if (this.isStopped) this.#pending = [];
    return this.isStopped;
  }

  get #mayLand(): boolean {
    return this.#spec.opensAt !== undefined && !this.isStopped && this.plan?.landing === 'possible';
  }

  /** Reads a text. @returns the part that goes out */
  #out(text: string): string {
    if (this.#text === null) return text;
    const { isWhole = false, opensAt = Infinity, seeksSentence = false } = this.#spec;
    const isOpen = this.plan?.serviceClass === 'guaranteed' || (this.lastTokenAt ?? 0) >= opensAt;
    const out = this.#text.push(text, !this.#mayLand ? 'none' : isWhole ? 'all' : isOpen ? 'code' : 'none');
    if (seeksSentence && this.#text.sentences > 0) this.sentenceAt ??= this.lastTokenAt;
    return out;
  }

  /**
   * @param before tokens that start before this offset go out with the text; absent: tokens that start within the text
   */
  #show(text: string, before?: number): void {
    const end = this.#shown + codePointLength(text);
    const first = this.#pending.findIndex(({ offset }) => offset >= (before ?? end));
    const out = first < 0 ? this.#pending : this.#pending.slice(0, first);
    if (text === '' && out.length === 0) return;
    this.#pending = first < 0 ? [] : this.#pending.slice(first);
    this.#shown = end;
    this.#add({ text, tokens: out });
  }

  /** Adds to the last delta if the reader has not taken it and both are text, or both thoughts. */
  #add({ text = '', tokens = [], call = null, thoughts = '' }: Partial<Delta>): void {
    this.#hasOutput ||= call !== null || thoughts !== '' || /\S/.test(text);
    const last = this.#deltas.at(-1);
    const isCall = call !== null || last?.call !== null;
    const kept = this.#spec.keepsTokens === false ? [] : tokens;
    if (last === undefined || isCall || isLong(last) || (last.thoughts === '') !== (thoughts === '')) {
      this.#deltas.push({ index: this.#index, text, tokens: kept, call, thoughts });
      return;
    }
    last.text += text;
    last.tokens.push(...kept);
    last.thoughts += thoughts;
  }
}

function isLong({ tokens, text, thoughts }: Delta): boolean {
  return tokens.length >= MOST_TOKENS || text.length + thoughts.length >= MOST_UNITS;
}
