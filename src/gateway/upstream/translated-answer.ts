/**
 * An answer of an upstream's chat in the form of another API, whole or as a stream.
 *
 * Must not know: connections, the forms of APIs.
 */
import { ApiError, type ErrorCode, ERRORS } from '../api/errors.js';
import type { Elsewhere } from '../api/endpoints/endpoint.js';
import type { ApiRequest, EventStream } from '../api/context.js';
import type { FinishReason } from '../api/generation/choice.js';
import type { Form, FormAnswer } from '../api/generation/serve.js';
import type { SortieReport } from '../api/schemas/report.js';
import type { Usage } from '../api/schemas/shared.js';
import { isValid, nullable, type Static, Type } from '../../util/schema.js';
import type { ClientStream, OpenBody, PlainAnswer } from './call.js';
import { readObject } from './chunk.js';
import { DONE } from './pass-through.js';
import type { Incoming } from './sse-events.js';

const Text = Type.Optional(nullable(Type.String()));
const Call = Type.Object({
  index: Type.Optional(Type.Number()),
  id: Text,
  function: Type.Optional(Type.Object({ name: Text, arguments: Text })),
});
const Message = Type.Object({
  content: Text,
  refusal: Text,
  reasoning_content: Text,
  reasoning: Text,
  tool_calls: Type.Optional(nullable(Type.Array(Call))),
});
type Message = Static<typeof Message>;
const Choice = Type.Object({
  delta: Type.Optional(nullable(Message)),
  message: Type.Optional(nullable(Message)),
  finish_reason: Type.Optional(Type.Unknown()),
});
/** A part of a chat's answer, a chunk or a whole one, as far as other APIs state it. */
const ChatPart = Type.Object({ choices: Type.Optional(nullable(Type.Array(Choice))) });

interface ChatPart extends Static<typeof ChatPart> {
  readonly usage?: Partial<Usage> | null;
  readonly error?: { readonly message?: unknown; readonly code?: unknown } | null;
  readonly sortie?: SortieReport;
}

/** @throws ApiError upstream_failed for a text of another form */
function readPart(text: string): ChatPart {
  const part = readObject(text);
  if (isValid(ChatPart, part)) return part;
  throw new ApiError('upstream_failed', 'The upstream sent an answer that is no chat.');
}

const FINISH: ReadonlyMap<string, FinishReason> = new Map([
  ['length', 'length'],
  ['tool_calls', 'tool_calls'],
  ['function_call', 'tool_calls'],
]);

/** The answer as forms read it. It grows part by part. */
class ChatAnswer implements FormAnswer {
  readonly created = Math.floor(Date.now() / 1000);
  readonly request: FormAnswer['request'];
  readonly #choice: FormAnswer['choices'][number] & { finishReason: FinishReason | null } = {
    finishReason: null,
    stopString: null,
    completionTokens: 0,
  };
  readonly choices = [this.#choice];
  isFiltered = false;
  #usage: Partial<Usage> = {};
  #report: SortieReport | undefined;
  /** Indices of calls that have begun. */
  readonly #calls = new Set<number>();

  constructor({ id, body }: Pick<ApiRequest<OpenBody>, 'id' | 'body'>, modelName: string) {
    const numberOf = (field: string, usual: number): number => {
      const value = body[field];
      return typeof value === 'number' ? value : usual;
    };
    this.request = {
      id,
      modelName,
      engine: {
        sampling: {
          temperature: numberOf('temperature', 1),
          topP: numberOf('top_p', 1),
          presencePenalty: numberOf('presence_penalty', 0),
          frequencyPenalty: numberOf('frequency_penalty', 0),
        },
        logprobs: null,
        sequences: [{ maxTokens: numberOf('max_tokens', Infinity) }],
      },
    };
  }

  /** Gives the parts of a chunk or of a whole answer to a form. */
  read({ choices, usage, sortie }: ChatPart, form: Form): void {
    if (usage != null) this.#usage = usage;
    this.#report = sortie ?? this.#report;
    const [choice] = choices ?? [];
    const message = choice?.delta ?? choice?.message;
    if (message != null) this.#readMessage(message, form);
    const finish = choice?.finish_reason;
    const own = this.#choice;
    if (typeof finish !== 'string' || own.finishReason !== null) return;
    this.isFiltered = finish === 'content_filter';
    own.finishReason = FINISH.get(finish) ?? 'stop';
    form.add({ index: 0, finishReason: own.finishReason, isLast: true });
  }

  #readMessage({ content, refusal, reasoning_content, reasoning, tool_calls }: Message, form: Form): void {
    const empty = { index: 0, text: '', tokens: [], call: null, thoughts: '' };
    const thoughts = reasoning_content ?? reasoning ?? '';
    if (thoughts !== '') form.add({ ...empty, thoughts });
    const text = content ?? refusal ?? '';
    if (text !== '') form.add({ ...empty, text });
    for (const [place, { index = place, id, function: called }] of (tool_calls ?? []).entries()) {
      const isNew = !this.#calls.has(index);
      this.#calls.add(index);
      const head = isNew ? { id: id ?? `call_${this.request.id}_${index}`, name: called?.name ?? '' } : {};
      form.add({ ...empty, call: { index, ...head, arguments: called?.arguments ?? '' } });
    }
  }

  usage(): Usage {
    const {
      prompt_tokens = 0,
      completion_tokens = 0,
      prompt_tokens_details: cached,
      completion_tokens_details: parts,
    } = this.#usage;
    return {
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
      prompt_tokens_details: { cached_tokens: cached?.cached_tokens ?? 0 },
      completion_tokens_details: {
        reasoning_tokens: parts?.reasoning_tokens ?? 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    };
  }

  report(): SortieReport | undefined {
    return this.#report;
  }
}

/** The parts of a translation that this file needs. */
export interface Translated {
  readonly endpoint: Elsewhere;
  /** As the client sent it. */
  readonly request: Pick<ApiRequest<OpenBody>, 'id' | 'body'>;
  readonly model: string;
}

/** The chat's whole answer, or an error, in the form of the endpoint. */
export function translatedWhole({ endpoint, request, model }: Translated, answer: PlainAnswer): PlainAnswer {
  const { status, headers, body } = answer;
  if (status !== 200) return { status, headers, body: endpoint.errorBody(status, body, request.id) };
  const chat = new ChatAnswer(request, model);
  const form = endpoint.form(request, chat);
  chat.read(readPart(body), form);
  const report = chat.report();
  const whole = { ...form.end(), ...(report !== undefined && { sortie: report }) };
  try {
    return { status, headers, body: JSON.stringify(whole) };
  } catch {
    // The arguments of a call are a text, which may hold any depth.
    throw new ApiError('upstream_failed', 'The upstream sent a call that is nested too deep.');
  }
}

/** A stream of chat chunks that its client gets as events of the endpoint. */
export class TranslatedStream implements ClientStream {
  readonly keepsText = true;
  readonly #chat: ChatAnswer;
  readonly #form: Form;
  #isOver = false;

  constructor(
    private readonly translated: Translated,
    private readonly out: ClientStream & EventStream,
  ) {
    const { endpoint, request, model } = translated;
    this.#chat = new ChatAnswer(request, model);
    this.#form = endpoint.form(request, this.#chat, (event, name) => {
      this.out.send(event, name);
    });
  }

  pass(events: readonly Incoming[]): void {
    for (const event of events) {
      if (event.type === 'comment') this.out.pass([event]);
      else this.#read(event.data);
    }
  }

  keepOpen(): void {
    this.out.keepOpen();
  }

  drained(): Promise<void> | null {
    return this.out.drained();
  }

  respond(answer: PlainAnswer): boolean {
    const isTold = this.out.respond(translatedWhole(this.translated, answer));
    this.#isOver ||= isTold;
    return isTold;
  }

  reject(error: ApiError): boolean {
    const isTold = this.out.reject(error);
    this.#isOver ||= isTold;
    return isTold;
  }

  /** The last event of a chat has no twin in other APIs. */
  end(): void {
    if (!this.#isOver) this.#form.end();
    this.#isOver = true;
    this.out.end(null);
  }

  #read(data: string): void {
    if (data === DONE || this.#isOver) return;
    const part = readPart(data);
    if (part.error == null) {
      this.#chat.read(part, this.#form);
      return;
    }
    this.#isOver = true;
    const { message, code } = part.error;
    const known = typeof code === 'string' && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'upstream_failed';
    this.#form.failed(new ApiError(known, typeof message === 'string' ? message : 'The upstream model failed.'));
  }
}
