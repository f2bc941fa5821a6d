/** The stream of a response: OpenAI's named events, each with its number in the stream. */
import type { ApiContext, ApiRequest } from '../context.js';
import type { Answer } from '../generation/answer.js';
import type { AnswerEvents, SendEvent } from '../generation/endpoint.js';
import { chatLogprobs } from '../generation/logprobs.js';
import type { OutputItem, ResponsesBody } from '../schemas/responses.js';
import { Output, reasoningPart, textPart, type OutputListener } from './output.js';
import { responseOf, statusOf } from './response.js';

/** Sends an event of this type with the next number. */
type Emit = (type: string, fields: object) => void;

/** The events of items. Only the last part of an item is whole in its events: a copy would grow with each token. */
function itemEvents(emit: Emit): OutputListener {
  const content = (item: OutputItem, output_index: number) => ({ item_id: item.id, output_index, content_index: 0 });
  return {
    added(item, output_index) {
      if (item.type === 'function_call') {
        emit('response.output_item.added', { output_index, item });
        return;
      }
      emit('response.output_item.added', { output_index, item: { ...item, content: [] } });
      const part = item.type === 'reasoning' ? reasoningPart() : textPart();
      emit('response.content_part.added', { ...content(item, output_index), part });
    },
    reasoning(item, index, delta) {
      emit('response.reasoning_text.delta', { ...content(item, index), delta });
    },
    text(item, index, delta, logprobs) {
      emit('response.output_text.delta', { ...content(item, index), delta, logprobs });
    },
    arguments(item, output_index, delta) {
      emit('response.function_call_arguments.delta', { item_id: item.id, output_index, delta });
    },
    done(item, output_index) {
      if (item.type === 'function_call') {
        const { name, arguments: text } = item;
        const call = { item_id: item.id, output_index, name, arguments: text };
        emit('response.function_call_arguments.done', call);
      } else if (item.type === 'reasoning') {
        const [part = reasoningPart()] = item.content;
        emit('response.reasoning_text.done', { ...content(item, output_index), text: part.text });
        emit('response.content_part.done', { ...content(item, output_index), part });
      } else {
        const [part = textPart()] = item.content;
        const { text, logprobs } = part;
        emit('response.output_text.done', { ...content(item, output_index), text, logprobs });
        emit('response.content_part.done', { ...content(item, output_index), part });
      }
      emit('response.output_item.done', { output_index, item });
    },
  };
}

export function responseEvents(
  context: ApiContext,
  { body }: ApiRequest<ResponsesBody>,
  send: SendEvent,
): AnswerEvents {
  let number = 0;
  let output: Output | null = null;
  const emit: Emit = (type, fields) => {
    send({ type, sequence_number: number++, ...fields }, type);
  };
  /** Begins the stream with the first token, so that a rejection is a plain error. */
  const begun = (answer: Answer): Output => {
    if (output !== null) return output;
    const response = responseOf(body, answer, { status: 'in_progress', output: [] });
    emit('response.created', { response });
    emit('response.in_progress', { response });
    output = new Output(answer.id, itemEvents(emit));
    return output;
  };
  return {
    delta(answer, _index, { text, tokens, call, reasoning = '' }) {
      const items = begun(answer);
      if (reasoning !== '') items.reasoning(reasoning);
      else if (call !== null) items.call(call);
      else {
        const isScored = answer.plan.logprobs !== null;
        items.text(text, isScored ? chatLogprobs(context.model.tokenizer, tokens) : []);
      }
    },
    finished(answer, _index, reason) {
      begun(answer).end(statusOf(reason));
    },
    done(answer, report) {
      const { items } = begun(answer);
      const status = items.at(-1)?.status === 'incomplete' ? 'incomplete' : 'completed';
      emit(`response.${status}`, {
        response: { ...responseOf(body, answer, { status, output: items }), sortie: report },
      });
    },
    failed(answer, error) {
      // OpenAI documents the first form, and its server and Open Responses have the second one; clients read either.
      const { message, code, param } = error;
      emit('error', { code, message, param, ...error.body() });
      const items = (output?.items ?? []).map((item): OutputItem =>
        item.status === 'in_progress' ? { ...item, status: 'incomplete' } : item,
      );
      emit('response.failed', { response: responseOf(body, answer, { status: 'failed', output: items, error }) });
    },
  };
}
