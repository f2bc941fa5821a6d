/**
 * Thoughts of models that think before they answer: text between two tags, at the start of an answer.
 *
 * The rules are those of vLLM's and llama.cpp's parsers: thoughts come first, the first closing tag ends them, and
 * later tags are text. Must not know: tokens, JSON forms.
 */

export interface ThoughtTags {
  readonly open: string;
  readonly close: string;
}

/** The pairs of tags in use: by Qwen3, SmolLM3, DeepSeek and most others; by Magistral and Ministral. */
const PAIRS: readonly ThoughtTags[] = [
  { open: '<think>', close: '</think>' },
  { open: '[THINK]', close: '[/THINK]' },
];

/** The tags that a chat template speaks of, or null. Templates drop earlier thoughts, or open the next ones. */
export function thoughtTags(template: string): ThoughtTags | null {
  return PAIRS.find(({ open, close }) => template.includes(close) || template.includes(open)) ?? null;
}

/** Whether a text ends inside of thoughts. */
export function endsInThoughts({ open, close }: ThoughtTags, text: string): boolean {
  const begin = text.lastIndexOf(open);
  return begin >= 0 && !text.includes(close, begin);
}

/** New text of an answer, with its thoughts apart. */
export interface Thought {
  readonly thoughts: string;
  readonly text: string;
}

type State = 'start' | 'thoughts' | 'gap' | 'text';

/** Splits a growing answer. White space around the thoughts is dropped. */
export class ThoughtReader {
  #state: State;
  /** Text that may be part of a tag, and the blanks in front of it. To read those again with each piece takes long. */
  #held = '';
  #blanks = '';
  readonly #tags: ThoughtTags;
  #hasThoughts = false;

  /** @param isOpen whether the prompt ends inside of thoughts */
  constructor(tags: ThoughtTags, isOpen: boolean) {
    this.#tags = tags;
    this.#state = isOpen ? 'thoughts' : 'start';
  }

  /** Whether the answer's own text has begun. */
  get isText(): boolean {
    return this.#state === 'text';
  }

  /** Whether the text so far may still become an answer without thoughts. */
  get isUndecided(): boolean {
    return this.#state === 'start';
  }

  push(piece: string): Thought {
    this.#held += piece;
    if (this.#state === 'start') this.#begin();
    const thoughts = this.#state === 'thoughts' ? this.#think() : '';
    if (this.#state === 'gap') this.#skipSpace();
    return { thoughts, text: this.#state === 'text' ? this.#take() : '' };
  }

  /** Ends the answer. @returns what was held back */
  end(): Thought {
    const held = this.#take();
    if (this.#state === 'start') return { thoughts: '', text: held };
    return { thoughts: this.#state === 'thoughts' ? this.#trimmed(held.trimEnd()) : '', text: '' };
  }

  #begin(): void {
    const { open } = this.#tags;
    const begun = this.#held.trimStart();
    this.#blanks += this.#held.slice(0, this.#held.length - begun.length);
    this.#held = begun;
    if (begun.startsWith(open)) {
      this.#held = begun.slice(open.length);
      this.#blanks = '';
      this.#state = 'thoughts';
    } else if (!open.startsWith(begun)) this.#state = 'text';
  }

  /** @returns the thoughts that are certain */
  #think(): string {
    const { close } = this.#tags;
    const end = this.#held.indexOf(close);
    const certain = this.#held.slice(0, end >= 0 ? end : this.#held.length - beginningOf(close, this.#held));
    this.#held = this.#held.slice(certain.length + (end >= 0 ? close.length : 0));
    const thought = certain.trimEnd();
    const shown = thought === '' ? '' : this.#blanks + thought;
    this.#blanks = end >= 0 ? '' : (thought === '' ? this.#blanks : '') + certain.slice(thought.length);
    if (end >= 0) this.#state = 'gap';
    return this.#trimmed(shown);
  }

  /** Drops the space before the first thought. */
  #trimmed(thought: string): string {
    const shown = this.#hasThoughts ? thought : thought.trimStart();
    this.#hasThoughts ||= shown !== '';
    return shown;
  }

  #skipSpace(): void {
    this.#held = this.#held.trimStart();
    if (this.#held !== '') this.#state = 'text';
  }

  #take(): string {
    const held = this.#blanks + this.#held;
    this.#held = this.#blanks = '';
    return held;
  }
}

/** The length of the longest end of a text with which a tag begins. */
function beginningOf(tag: string, text: string): number {
  for (let length = Math.min(tag.length - 1, text.length); length > 0; length--)
    if (text.endsWith(tag.slice(0, length))) return length;
  return 0;
}
