/**
 * The output items of an answer: its thoughts, then a message, or one item for each call.
 *
 * It tells what begins, grows and ends, so that a stream and a whole answer have the same items.
 */
import type { CallPart } from '../generation/call-reader.js';
import type { ChatLogprob } from '../schemas/chat.js';
import type { OutputItem } from '../schemas/responses.js';

export type MessageItem = Extract<OutputItem, { type: 'message' }>;
export type ReasoningItem = Extract<OutputItem, { type: 'reasoning' }>;
export type CallItem = Extract<OutputItem, { type: 'function_call' }>;
type Status = OutputItem['status'];
type TextPart = MessageItem['content'][number];

export const textPart = (text = '', logprobs: ChatLogprob[] = []): TextPart => ({
  ...{ type: 'output_text', text, annotations: [], logprobs },
});

export const reasoningPart = (text = ''): ReasoningItem['content'][number] => ({ type: 'reasoning_text', text });

export interface OutputListener {
  added(item: OutputItem, index: number): void;
  text(item: MessageItem, index: number, delta: string, logprobs: ChatLogprob[]): void;
  reasoning(item: ReasoningItem, index: number, delta: string): void;
  arguments(item: CallItem, index: number, delta: string): void;
  done(item: OutputItem, index: number): void;
}

export class Output {
  readonly items: OutputItem[] = [];
  #isOpen = false;
  readonly #answerId: string;
  readonly #listener: OutputListener | null;

  /** @param listener null for an answer in one piece */
  constructor(answerId: string, listener: OutputListener | null = null) {
    this.#answerId = answerId;
    this.#listener = listener;
  }

  /** Adds a text, which may be empty, to the message that grows or to a new one. */
  text(delta: string, logprobs: ChatLogprob[]): void {
    const item = this.#growing('message') ?? this.#open(this.#message());
    const [part] = item.content;
    if (part === undefined) throw new Error('a message without its part');
    part.text += delta;
    part.logprobs.push(...logprobs);
    if (delta !== '' || logprobs.length > 0) this.#listener?.text(item, this.items.length - 1, delta, logprobs);
  }

  /** Adds thoughts, which are not empty. */
  reasoning(delta: string): void {
    const item = this.#growing('reasoning') ?? this.#open(this.#reasoning());
    const [part] = item.content;
    if (part === undefined) throw new Error('a reasoning item without its part');
    part.text += delta;
    this.#listener?.reasoning(item, this.items.length - 1, delta);
  }

  call({ id, name, arguments: delta }: CallPart): void {
    if (id !== undefined && name !== undefined) this.#open(this.#call(id, name));
    const item = this.#growing('function_call');
    if (item === null) throw new Error('a part of a call that has not begun');
    item.arguments += delta;
    if (delta !== '') this.#listener?.arguments(item, this.items.length - 1, delta);
  }

  /** Ends the last item. An answer without any has an empty message. */
  end(status: Status): void {
    if (this.items.length === 0) this.text('', []);
    this.#close(status);
  }

  #growing<T extends OutputItem['type']>(type: T): Extract<OutputItem, { type: T }> | null {
    const last = this.items.at(-1);
    return this.#isOpen && last?.type === type ? (last as Extract<OutputItem, { type: T }>) : null;
  }

  #open<T extends OutputItem>(item: T): T {
    this.#close('completed');
    this.items.push(item);
    this.#isOpen = true;
    this.#listener?.added(item, this.items.length - 1);
    return item;
  }

  #close(status: Status): void {
    const item = this.items.at(-1);
    if (!this.#isOpen || item === undefined) return;
    this.#isOpen = false;
    item.status = status;
    this.#listener?.done(item, this.items.length - 1);
  }

  #id(prefix: string): string {
    return `${prefix}_${this.#answerId}${this.items.length === 0 ? '' : `_${this.items.length}`}`;
  }

  #message(): MessageItem {
    return {
      ...{ type: 'message', id: this.#id('msg'), status: 'in_progress', role: 'assistant', content: [textPart()] },
    };
  }

  #reasoning(): ReasoningItem {
    return { type: 'reasoning', id: this.#id('rs'), status: 'in_progress', summary: [], content: [reasoningPart()] };
  }

  #call(callId: string, name: string): CallItem {
    return {
      ...{ type: 'function_call', id: this.#id('fc'), status: 'in_progress', call_id: callId, name, arguments: '' },
    };
  }
}
