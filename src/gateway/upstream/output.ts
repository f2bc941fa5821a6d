/** The client's side of a timed answer: a stream, or a body that is collected. Must not know: upstreams, time. */
import { type ApiError, toApiError } from '../api/errors.js';
import type { ClientStream, PlainAnswer, UpstreamCall } from './call.js';
import { type Chunk, type ChunkJson, EndedChoices } from './chunk.js';
import type { HeldBytes } from './held-bytes.js';
import { type Counts, summed } from './landed.js';
import { withField } from './json-fields.js';
import { broken, DONE } from './pass-through.js';
import { eventOf } from './sse-events.js';
import { WholeAnswer } from './whole-answer.js';

/** The end of an answer. */
export interface AnswerEnd {
  /** Chunks in place of the upstream's own; none behind an answer that its model ended. */
  readonly last: readonly ChunkJson[];
  readonly report: object;
  readonly headers: Readonly<Record<string, string>>;
  /** Counts of a model whose text did not go out, for `usage`; null: there is none. */
  readonly others: Counts | null;
}

/** A chunk whose counts have those of the other model as well. */
function counted(json: ChunkJson, others: Counts | null): ChunkJson {
  const { usage } = json;
  return others === null || usage == null ? json : { ...json, usage: { ...usage, ...summed(usage, others) } };
}

export interface Output {
  /** Whether text that was sent may be seen by the client. */
  readonly isSeen: boolean;
  send(chunk: Chunk): void;
  /** Resolves once the client has read on. Null while it keeps up. */
  drained(): Promise<void> | null;
  /** Keeps a silent stream open with comments. An error is an event behind the first one. */
  keepOpen(): void;
  /** Gives an answer that is no stream of chunks. */
  plain(answer: PlainAnswer): PlainAnswer | null;
  end(end: AnswerEnd): PlainAnswer | null;
  /** @throws the error itself if the response has not begun */
  fail(thrown: unknown): null;
}

export class StreamOutput implements Output {
  readonly isSeen = true;
  readonly #out: ClientStream;
  readonly #ended: EndedChoices;
  /** The last chunk that ends a choice, and those behind it: the report goes out with it. */
  #waiting: Chunk[] = [];

  constructor(
    call: UpstreamCall,
    choices: number,
    private readonly held: HeldBytes,
  ) {
    this.#out = call.open();
    this.#ended = new EndedChoices(choices);
  }

  send(chunk: Chunk): void {
    this.#ended.add(chunk);
    // Another choice goes on.
    if (!this.#ended.areAll && !chunk.isEmpty) this.#sendWaiting();
    if (chunk.ended.length > 0 || this.#waiting.length > 0) this.#waiting.push(chunk);
    else this.#pass(chunk);
  }

  #sendWaiting(): void {
    for (const chunk of this.#waiting) this.#pass(chunk);
    this.#waiting = [];
  }

  #pass({ data, bytes }: Chunk): void {
    this.#write(data);
    this.held.free(this.#out.keepsText ? Math.max(0, bytes - data.length) : bytes);
  }

  drained(): Promise<void> | null {
    return this.#out.drained();
  }

  keepOpen(): void {
    this.#out.keepOpen();
  }

  plain(answer: PlainAnswer): null {
    if (this.#out.respond(answer)) return null;
    // The status line of a kept-alive stream is out.
    this.#write(answer.body.replace(/[\r\n]+/g, ' '));
    this.#out.end(DONE);
    return null;
  }

  end({ last, report, others }: AnswerEnd): null {
    this.#waiting.forEach(({ data: own, json }, index) => {
      const all = counted(json, others);
      const data = all === json ? own : JSON.stringify(all);
      this.#write(index === 0 && last.length === 0 ? withField(data, 'sortie', report) : data);
    });
    for (const chunk of last) this.#write(JSON.stringify(counted(chunk, others)));
    this.#out.end(DONE);
    return null;
  }

  fail(thrown: unknown): null {
    this.#sendWaiting();
    broken(this.#out, toApiError(thrown));
    return null;
  }

  #write(data: string): void {
    // The upstream's JSON may stand in several lines.
    this.#out.pass([eventOf(data)]);
  }
}

export class WholeOutput implements Output {
  readonly isSeen = false;
  readonly #whole = new WholeAnswer();

  send({ json }: Chunk): void {
    this.#whole.add(json);
  }

  drained(): null {
    return null;
  }

  keepOpen(): void {
    // A body has no comments.
  }

  plain(answer: PlainAnswer): PlainAnswer {
    return answer;
  }

  end({ last, report, headers, others }: AnswerEnd): PlainAnswer {
    for (const chunk of last) this.#whole.add(chunk);
    const body = JSON.stringify(counted(this.#whole.body({ sortie: report }), others));
    return { status: 200, headers: { 'content-type': 'application/json; charset=utf-8', ...headers }, body };
  }

  fail(thrown: ApiError): never {
    throw thrown;
  }
}
