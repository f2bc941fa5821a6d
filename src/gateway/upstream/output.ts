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

/** The answer as forms read it grows part by part. */
export class Output implements FormAnswer {
  readonly created = Math.floor(Date.now() / 1000);
  readonly request: FormAnswer['request'];
  readonly model: FormAnswer['model'];
  readonly choices: WrittenChoice[] = [writtenChoice()];
  fields: Record<string, unknown> = noFields();
  #stated: Partial<ReturnType<FormAnswer['usage']>> & object = {};
  /** Of all models that had a part. */
  #usage = countsOf({ prompt_tokens: 0, completion_tokens: 0 });
  #report: object | undefined;
  /** Null: the answer goes out whole. */
  readonly stream: ClientStream | null;
  readonly #form: Form;
  /** The ends of choices: the report goes out with the last one. */
  readonly #ends: ChoiceEnd[] = [];

  /** @param tokenizer of the local model that may answer; null without one */
  constructor(
    private readonly call: UpstreamCall,
    tokenizer: TextTokenizer | null,
  ) {
    const { request, writing } = call;
    const { body } = request;
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
    const stream = (this.stream = isStreamed(call) ? call.open() : null);
    const send = (event: object, name?: string): void => stream?.send(event, name);
    this.#form = writing.form(writing.request, this, ...(stream === null ? [] : [send]));
  }

  promptOf(): never {
    throw new Error('an answer without its prompt');
  }

  usage() {
    const { prompt_tokens_details: read, completion_tokens_details: written } = this.#stated;
    const predicted = { accepted_prediction_tokens: 0, rejected_prediction_tokens: 0 };
    return {
      ...this.#stated,
      ...this.#usage,
      prompt_tokens_details: { cached_tokens: 0, ...present(read ?? {}) },
      completion_tokens_details: { reasoning_tokens: 0, ...predicted, ...present(written ?? {}) },
    };
  }

  report(): object | undefined {
    return this.#report;
  }

  /** Reads the fields of an upstream's chunk that are none of its choices. */
  read(json: ChunkJson): void {
    this.#stated = json.usage ?? this.#stated;
    const own = without(json, 'id', 'object', 'created', 'model', 'choices', 'usage', 'sortie');
    for (const [name, value] of Object.entries(own)) if (value !== null) this.fields[name] = value;
  }

  /** The answer is another one than that of the upstream. */
  isLocal(): void {
    this.fields = {};
    this.#stated = {};
  }

  send(piece: Piece): void {
    const choice = (this.choices[piece.index] ??= writtenChoice());
    if ('finishReason' in piece) {
      choice.finishReason ??= piece.finishReason;
      this.#ends.push(piece);
    } else this.#form.add(piece.call === null ? piece : { ...piece, call: this.#callOf(piece.call, choice) });
  }

  /** A part of a call, whose first one alone has id and name. */
  #callOf(
    { index, id = `call_${this.request.id}_${index}`, name = '', ...part }: CallPart,
    { calls }: WrittenChoice,
  ): CallPart {
    const isNew = !calls.has(index);
    calls.add(index);
    return { ...part, index, ...(isNew && { id, name }) };
  }

  /** Gives an error of the upstream. */
  plain(answer: PlainAnswer): PlainAnswer | null {
    const { errorBody } = this.call.writing;
    const told = errorBody === null ? answer : { ...answer, body: errorBody(answer.status, answer.body) };
    if (this.stream === null) return told;
    // The status line of a kept-alive stream is out.
    return this.stream.respond(told) ? null : this.fail(errorIn(answer.body));
  }

  /** Ends the answer. A choice without an end of its own has that of a forced one. @param report absent: none */
  end(usage: Counts, report: object | undefined): PlainAnswer | null {
    this.#usage = usage;
    this.#report = report;
    // An upstream may leave choices out: the list has holes.
    this.choices.forEach(({ finishReason }, index) => {
      if (finishReason === null) this.send({ index, finishReason: 'length', isLast: false });
    });
    for (const [at, each] of this.#ends.entries()) this.#form.add({ ...each, isLast: at === this.#ends.length - 1 });
    const whole = { ...this.#form.end(), ...(report !== undefined && { sortie: report }) };
    this.stream?.end(this.call.writing.terminator);
    if (this.stream !== null) return null;
    try {
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      return { status: 200, headers, body: JSON.stringify(whole) };
    } catch {
      // The arguments of a call are a text, which may hold any depth.
      throw new ApiError('upstream_failed', 'The upstream sent a call that is nested too deep.');
    }
  }

  /** @throws the error itself if the response has not begun */
  fail(thrown: unknown): null {
    if (this.stream === null) throw thrown;
    const error = toApiError(thrown);
    if (error !== thrown)
      this.call.request.addLogFields({ fault: thrown instanceof Error ? thrown.stack : String(thrown) });
    if (this.stream.reject(error)) return null;
    this.#form.failed(error);
    this.stream.end(this.call.writing.terminator);
    return null;
  }
}
