/**
 * The output items of an answer: its thoughts, then a message, or one item for each call. A stream has the events of
 * each item. Only the last part of an item is whole in them: a copy would grow with each token.
 */
import type { CallPart } from '../../generation/call-reader.js';
import { type Static, Type, words } from '../../../../util/schema.js';
import type { ChoiceToken } from '../../generation/choice.js';
import { ChatLogprob } from '../../generation/logprobs.js';

export const Status = words(['in_progress', 'completed', 'incomplete']);

const MessageItem = Type.Object({
  type: Type.Literal('message'),
  id: Type.String(),
  status: Status,
  role: Type.Literal('assistant'),
  content: Type.Array(
    Type.Object({
      type: Type.Literal('output_text'),
      text: Type.String(),
      annotations: Type.Array(Type.Unknown()),
      logprobs: Type.Array(ChatLogprob),
    }),
  ),
});

const CallItem = Type.Object({
  type: Type.Literal('function_call'),
  id: Type.String(),
  status: Status,
  call_id: Type.String(),
  name: Type.String(),
  arguments: Type.String(),
});

/** Thoughts in front of a message or a call. */
const ReasoningItem = Type.Object({
  type: Type.Literal('reasoning'),
  id: Type.String(),
  status: Status,
  summary: Type.Array(Type.Unknown()),
  content: Type.Array(Type.Object({ type: Type.Literal('reasoning_text'), text: Type.String() })),
});

export const OutputItem = Type.Union([MessageItem, CallItem, ReasoningItem]);
export type OutputItem = Static<typeof OutputItem>;

/** Sends an event of this type, if the response is a stream. */
export type Emit = (type: string, fields: object) => void;

type Item<T extends OutputItem['type']> = Extract<OutputItem, { type: T }>;
type ItemStatus = OutputItem['status'];

/** The part of an item as it begins. */
const textPart = (logprobs: ChatLogprob[]): Item<'message'>['content'][number] => ({
  type: 'output_text',
  text: '',
  annotations: [],
  logprobs,
});
const thoughtsPart = (): Item<'reasoning'>['content'][number] => ({ type: 'reasoning_text', text: '' });

/** The only part of an item that has parts. */
function partOf<Part>({ content: [part] }: { readonly content: readonly Part[] }): Part {
  if (part === undefined) throw new Error('an item without its part');
  return part;
}

export class Output {
  readonly items: OutputItem[] = [];
  #isOpen = false;

  /** The tokens of the message that grows. */
  #tokens: ChoiceToken[] = [];

  /** @param scores makes a list for JSON */
  constructor(
    private readonly answerId: string,
    private readonly emit: Emit,
    private readonly scores: (tokens: readonly ChoiceToken[]) => Iterable<ChatLogprob>,
  ) {}

  /** Adds a text, which may be empty, to the message that grows or to a new one. */
  text(delta: string, tokens: readonly ChoiceToken[]): void {
    const item = this.#growing('message') ?? this.#open(this.#message());
    partOf(item).text += delta;
    this.#tokens.push(...tokens);
    if (delta === '' && tokens.length === 0) return;
    this.emit('response.output_text.delta', { ...this.#place(item), delta, logprobs: this.scores(tokens) });
  }

  /** A new message. Its log-probabilities are made of its tokens whenever they are written. */
  #message(): Item<'message'> {
    this.#tokens = [];
    const part = textPart(this.scores(this.#tokens) as ChatLogprob[]);
    return { ...this.#head('message', 'msg'), role: 'assistant', content: [part] };
  }

  /** Adds thoughts, which are not empty. */
  thoughts(delta: string): void {
    const fresh = { summary: [], content: [thoughtsPart()] };
    const item = this.#growing('reasoning') ?? this.#open({ ...this.#head('reasoning', 'rs'), ...fresh });
    partOf(item).text += delta;
    this.emit('response.reasoning_text.delta', { ...this.#place(item), delta });
  }

  call({ id, name, arguments: delta }: CallPart): void {
    if (id !== undefined && name !== undefined)
      this.#open({ ...this.#head('function_call', 'fc'), call_id: id, name, arguments: '' });
    const item = this.#growing('function_call');
    if (item === null) throw new Error('a part of a call that has not begun');
    item.arguments += delta;
    if (delta !== '') this.emit('response.function_call_arguments.delta', { ...this.#call(item), delta });
  }

  /** Ends the last item. An answer without any has an empty message. */
  end(status: ItemStatus): void {
    if (this.items.length === 0) this.text('', []);
    this.#close(status);
  }

  #growing<T extends OutputItem['type']>(type: T): Item<T> | null {
    const last = this.items.at(-1);
    return this.#isOpen && last?.type === type ? (last as Item<T>) : null;
  }

  #open<T extends OutputItem>(item: T): T {
    this.#close('completed');
    const output_index = this.items.push(item) - 1;
    this.#isOpen = true;
    const isCall = item.type === 'function_call';
    this.emit('response.output_item.added', { output_index, item: isCall ? item : { ...item, content: [] } });
    if (!isCall) this.emit('response.content_part.added', { ...this.#place(item), part: partOf<object>(item) });
    return item;
  }

  #close(status: ItemStatus): void {
    const item = this.items.at(-1);
    if (!this.#isOpen || item === undefined) return;
    this.#isOpen = false;
    item.status = status;
    this.#emitEnd(item);
    this.emit('response.output_item.done', { output_index: this.items.length - 1, item });
  }

  #emitEnd(item: OutputItem): void {
    if (item.type === 'function_call') {
      const { name, arguments: text } = item;
      this.emit('response.function_call_arguments.done', { ...this.#call(item), name, arguments: text });
      return;
    }
    const place = this.#place(item);
    if (item.type === 'reasoning') {
      this.emit('response.reasoning_text.done', { ...place, text: partOf(item).text });
    } else {
      const { text, logprobs } = partOf(item);
      this.emit('response.output_text.done', { ...place, text, logprobs });
    }
    this.emit('response.content_part.done', { ...place, part: partOf<object>(item) });
  }

  #call({ id }: OutputItem) {
    return { item_id: id, output_index: this.items.length - 1 };
  }

  #place(item: OutputItem) {
    return { ...this.#call(item), content_index: 0 };
  }

  #head<T extends OutputItem['type']>(type: T, prefix: string) {
    const number = this.items.length === 0 ? '' : `_${this.items.length}`;
    return { type, id: `${prefix}_${this.answerId}${number}`, status: 'in_progress' as const };
  }
}
