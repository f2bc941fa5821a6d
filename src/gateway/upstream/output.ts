/** The client's side of an answer in pieces: a stream, or a body that is collected. Must not know: upstreams, time. */
import { ApiError, toApiError } from '../api/errors.js';
import type { CallPart } from '../api/generation/call-reader.js';
import type { ChoiceEnd, FinishReason, Piece } from '../api/generation/choice.js';
import { noFields } from '../api/generation/joined-fields.js';
import type { Form, FormAnswer } from '../api/generation/serve.js';
import { present } from '../../util/present.js';
import type { TextTokenizer } from '../text/tokenizer.js';
import { asksUsage, type ClientStream, isStreamed, type PlainAnswer, plainId, type UpstreamCall } from './call.js';
import { type ChunkJson, readObject } from './chunk.js';
import { type Counts, countsOf } from './exchange.js';
import { without } from './json-fields.js';

/** The end of an answer. */
export interface AnswerEnd {
  /** Of all models that had a part. */
  readonly usage: Counts;
  /** Absent: the client gets none. */
  readonly report?: object;
}

const writtenChoice = () => ({
  finishReason: null as FinishReason | null,
  stopString: null,
  completionTokens: 0,
  promptLogprobs: [],
  exitLayers: new Map<number, number>(),
  /** Indices of calls that have begun. */
  calls: new Set<number>(),
});
type WrittenChoice = ReturnType<typeof writtenChoice>;

/** The answer as forms read it. It grows part by part. */
class WrittenAnswer implements FormAnswer {
  readonly created = Math.floor(Date.now() / 1000);
  readonly request: FormAnswer['request'];
  readonly model: FormAnswer['model'];
  readonly choices: WrittenChoice[] = [writtenChoice()];
  fields: Record<string, unknown> = noFields();
  #counts: Partial<ReturnType<FormAnswer['usage']>> & object = {};
  end: AnswerEnd = { usage: countsOf({ prompt_tokens: 0, completion_tokens: 0 }) };

  constructor(call: UpstreamCall, tokenizer: TextTokenizer | null) {
    const { body } = call.request;
    const numberOf = (field: string, usual: number): number => {
      const value = body[field];
      return typeof value === 'number' ? value : usual;
    };
    this.model = { tokenizer, chat: null };
    this.request = {
      id: plainId(call),
      modelName: call.model,
      echo: false,
      includeUsage: isStreamed(call) && asksUsage(call),
      continuousUsage: false,
      engine: {
        sampling: {
          temperature: numberOf('temperature', 1),
          topP: numberOf('top_p', 1),
          presencePenalty: numberOf('presence_penalty', 0),
          frequencyPenalty: numberOf('frequency_penalty', 0),
        },
        logprobs: body.logprobs == null || body.logprobs === false ? null : numberOf('top_logprobs', 0),
        sequences: [{ maxTokens: numberOf('max_tokens', Infinity) }],
      },
    };
  }

  /** Reads the fields of an upstream's answer that are none of its choices. */
  read(json: ChunkJson): void {
    this.#counts = json.usage ?? this.#counts;
    const own = without(json, 'id', 'object', 'created', 'model', 'choices', 'usage', 'sortie');
    for (const [name, value] of Object.entries(own)) if (value !== null) this.fields[name] = value;
  }

  /** The answer is another one than that of the upstream. */
  isLocal(): void {
    this.fields = {};
    this.#counts = {};
  }

  promptOf(): never {
    throw new Error('an answer without its prompt');
  }

  usage() {
    const { prompt_tokens_details: read, completion_tokens_details: written } = this.#counts;
    const predicted = { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 };
    return {
      ...this.#counts,
      ...this.end.usage,
      prompt_tokens_details: { cached_tokens: 0, ...present(read ?? {}) },
      completion_tokens_details: { reasoning_tokens: 0, ...predicted, ...present(written ?? {}) },
    };
  }

  report(): object | undefined {
    return this.end.report;
  }
}

/** The error in a body of an upstream, with the fields that it states. */
function errorIn(body: string): ApiError {
  let error: unknown;
  try {
    ({ error } = readObject(body));
  } catch {
    // Proxies answer in HTML.
  }
  const extra = typeof error === 'object' && error !== null ? error : {};
  return new ApiError('upstream_failed', 'The upstream model failed.', null, { ...extra });
}

export class Output {
  /** Null: the answer goes out whole. */
  readonly stream: ClientStream | null;
  readonly answer: WrittenAnswer;
  readonly #form: Form;
  /** The ends of choices: the report goes out with the last one. */
  readonly #ends: ChoiceEnd[] = [];

  /** @param tokenizer of the local model that may answer; null without one */
  constructor(
    private readonly call: UpstreamCall,
    tokenizer: TextTokenizer | null,
  ) {
    const { writing } = call;
    const stream = (this.stream = isStreamed(call) ? call.open() : null);
    this.answer = new WrittenAnswer(call, tokenizer);
    const send = (event: object, name?: string): void => stream?.send(event, name);
    this.#form = writing.form(writing.request, this.answer, ...(stream === null ? [] : [send]));
  }

  send(piece: Piece): void {
    const choice = (this.answer.choices[piece.index] ??= writtenChoice());
    if ('finishReason' in piece) {
      choice.finishReason ??= piece.finishReason;
      this.#ends.push(piece);
    } else this.#form.add(piece.call === null ? piece : { ...piece, call: this.#callOf(piece.call, choice) });
  }

  /** A part of a call, whose first one alone has id and name. */
  #callOf(
    { index, id = `call_${this.answer.request.id}_${index}`, name = '', ...part }: CallPart,
    choice: WrittenChoice,
  ): CallPart {
    const isNew = !choice.calls.has(index);
    choice.calls.add(index);
    return { ...part, index, ...(isNew && { id, name }) };
  }

  /** Gives an error of the upstream. */
  plain(answer: PlainAnswer): PlainAnswer | null {
    const { errorBody } = this.call.writing;
    const told = errorBody === null ? answer : { ...answer, body: errorBody(answer.status, answer.body) };
    if (this.stream === null) return told;
    // The status line of a kept-alive stream is out.
    if (!this.stream.respond(told)) this.#broken(this.stream, errorIn(answer.body));
    return null;
  }

  /** Ends the answer. A choice without an end of its own has that of a forced one. */
  end(end: AnswerEnd): PlainAnswer | null {
    this.answer.end = end;
    // An upstream may leave choices out: the list has holes.
    this.answer.choices.forEach(({ finishReason }, index) => {
      if (finishReason === null) this.send({ index, finishReason: 'length', isLast: false });
    });
    for (const [at, each] of this.#ends.entries()) this.#form.add({ ...each, isLast: at === this.#ends.length - 1 });
    const whole = { ...this.#form.end(), ...(end.report !== undefined && { sortie: end.report }) };
    if (this.stream === null) {
      return { status: 200, headers: { 'content-type': 'application/json; charset=utf-8' }, body: bodyOf(whole) };
    }
    this.stream.end(this.call.writing.terminator);
    return null;
  }

  /** @throws the error itself if the response has not begun */
  fail(thrown: unknown): null {
    if (this.stream === null) throw thrown;
    const error = toApiError(thrown);
    if (error !== thrown)
      this.call.request.addLogFields({ fault: thrown instanceof Error ? thrown.stack : String(thrown) });
    if (!this.stream.reject(error)) this.#broken(this.stream, error);
    return null;
  }

  #broken(stream: ClientStream, error: ApiError): void {
    this.#form.failed(error);
    stream.end(this.call.writing.terminator);
  }
}

function bodyOf(whole: object): string {
  try {
    return JSON.stringify(whole);
  } catch {
    // The arguments of a call are a text, which may hold any depth.
    throw new ApiError('upstream_failed', 'The upstream sent a call that is nested too deep.');
  }
}
