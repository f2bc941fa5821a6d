/** The blocks of a message: one for its thoughts, one for its text, one for each call. The last one may be open. */
import type { CallPart } from '../generation/call-reader.js';
import type { AnswerBlock } from '../schemas/messages.js';

/** Sends an event of this type, if the message is a stream. */
export type Emit = (type: string, fields?: object) => void;

type Block<T extends AnswerBlock['type']> = Extract<AnswerBlock, { type: T }>;

/** The input of a call, or an empty one for a call that was cut. */
function inputOf(text: string): Record<string, unknown> {
  try {
    // The grammar of calls lets only objects through.
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return {};
  }
}

export class Blocks {
  readonly content: AnswerBlock[] = [];
  readonly #emit: Emit;
  #isOpen = false;
  /** Arguments of the last call so far. */
  #arguments = '';

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  text(text: string): void {
    if (text === '') return;
    const block = this.#open('text') ?? this.#start({ type: 'text', text: '' });
    this.#delta({ type: 'text_delta', text });
    block.text += text;
  }

  thoughts(thinking: string): void {
    const block = this.#open('thinking') ?? this.#start({ type: 'thinking', thinking: '', signature: '' });
    this.#delta({ type: 'thinking_delta', thinking });
    block.thinking += thinking;
  }

  call({ id, name = '', arguments: text }: CallPart): void {
    // The prefix of the id is Anthropic's. The id comes back in a tool_result.
    const head = { name, input: {}, caller: { type: 'direct' } } as const;
    if (id !== undefined) this.#start({ type: 'tool_use', id: id.replace(/^call_/, 'toolu_'), ...head });
    if (text !== '') this.#delta({ type: 'input_json_delta', partial_json: text });
    this.#arguments += text;
  }

  end(): void {
    const call = this.#open('tool_use');
    if (call !== null) call.input = inputOf(this.#arguments);
    if (this.#isOpen) this.#emit('content_block_stop', { index: this.content.length - 1 });
    this.#isOpen = false;
  }

  #open<T extends AnswerBlock['type']>(type: T): Block<T> | null {
    const last = this.content.at(-1);
    return this.#isOpen && last?.type === type ? (last as Block<T>) : null;
  }

  #start<T extends AnswerBlock>(block: T): T {
    this.end();
    this.#arguments = '';
    this.#isOpen = true;
    const index = this.content.push(block) - 1;
    this.#emit('content_block_start', { index, content_block: block });
    if (index === 0) this.#emit('ping');
    return block;
  }

  #delta(delta: object): void {
    this.#emit('content_block_delta', { index: this.content.length - 1, delta });
  }
}
