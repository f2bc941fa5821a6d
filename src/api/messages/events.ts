/** The stream of a message: Anthropic's named events. */
import type { ApiContext, ApiRequest } from '../context.js';
import type { Answer } from '../generation/answer.js';
import type { CallPart } from '../generation/call-reader.js';
import type { FinishReason } from '../generation/choice.js';
import type { AnswerEvents, SendEvent } from '../generation/endpoint.js';
import type { AnswerBlock, MessagesBody } from '../schemas/messages.js';
import { messagesError } from './errors.js';
import { endOf, messageOf, textBlock, thinkingBlock, toolUse, usageOf } from './message.js';

/** Sends an event of this type. */
type Emit = (type: string, fields?: object) => void;

/** The blocks of a message: one for its thoughts, one for its text, one for each call. At most one is open. */
class Blocks {
  readonly #emit: Emit;
  #index = -1;
  #open: AnswerBlock['type'] | null = null;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  text(text: string): void {
    if (text === '') return;
    if (this.#open !== 'text') this.#start(textBlock());
    this.#delta({ type: 'text_delta', text });
  }

  thinking(thinking: string): void {
    if (this.#open !== 'thinking') this.#start(thinkingBlock());
    this.#delta({ type: 'thinking_delta', thinking });
  }

  call(part: CallPart): void {
    if (part.id !== undefined) this.#start(toolUse(part));
    if (part.arguments !== '') this.#delta({ type: 'input_json_delta', partial_json: part.arguments });
  }

  end(): void {
    if (this.#open !== null) this.#emit('content_block_stop', { index: this.#index });
    this.#open = null;
  }

  #start(block: AnswerBlock): void {
    this.end();
    this.#open = block.type;
    this.#emit('content_block_start', { index: ++this.#index, content_block: block });
    if (this.#index === 0) this.#emit('ping');
  }

  #delta(delta: object): void {
    this.#emit('content_block_delta', { index: this.#index, delta });
  }
}

export function messageEvents(
  _context: ApiContext,
  { id, body }: ApiRequest<MessagesBody>,
  send: SendEvent,
): AnswerEvents {
  const emit: Emit = (type, fields = {}) => {
    send({ type, ...fields }, type);
  };
  let blocks: Blocks | null = null;
  let reason: FinishReason = 'length';
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begun = (answer: Answer): Blocks => {
    if (blocks === null) emit('message_start', { message: messageOf(answer, []) });
    blocks ??= new Blocks(emit);
    return blocks;
  };
  return {
    delta(answer, _index, { text, call, reasoning = '' }) {
      const growing = begun(answer);
      if (reasoning !== '') growing.thinking(reasoning);
      else if (call === null) growing.text(text);
      else growing.call(call);
    },
    finished(answer, _index, ended) {
      begun(answer).end();
      reason = ended;
    },
    done(answer, report) {
      emit('message_delta', { delta: endOf(answer, body, reason), usage: usageOf(answer), sortie: report });
      emit('message_stop');
    },
    failed(_answer, error) {
      send(messagesError(error, id), 'error');
    },
  };
}
