/** The client's side of a timed answer: a stream, or a body that is collected. Must not know: upstreams, time. */
import { type ApiError, toApiError } from '../api/errors.js';
import type { ClientStream, PlainAnswer, UpstreamCall } from './call.js';
import type { Chunk, ChunkJson } from './chunk.js';
import { withField } from './json-fields.js';
import { broken, DONE } from './pass-through.js';
import { WholeAnswer } from './whole-answer.js';

export interface Output {
  /** Whether text that was sent may be seen by the client. */
  readonly isSeen: boolean;
  send(chunk: Chunk): void;
  /** Resolves once the client has read on. Null while it keeps up. */
  drained(): Promise<void> | null;
  /** Gives an answer that is no stream of chunks. */
  plain(answer: PlainAnswer): PlainAnswer | null;
  /** @param last chunks in place of the upstream's own; @param report behind an answer that its upstream ended */
  end(last: readonly ChunkJson[], report: object, headers: Readonly<Record<string, string>>): PlainAnswer | null;
  /** @throws the error itself if the response has not begun */
  fail(thrown: unknown): null;
}

export class StreamOutput implements Output {
  readonly isSeen = true;
  readonly #out: ClientStream;
  /** The chunk that ends the answer waits: the report goes out with it. */
  #waiting: Chunk[] = [];

  constructor(call: UpstreamCall, headers: Readonly<Record<string, string>>) {
    this.#out = call.open(headers);
  }

  send(chunk: Chunk): void {
    if (chunk.finishReason !== null || this.#waiting.length > 0) this.#waiting.push(chunk);
    else this.#write(chunk.data);
  }

  drained(): Promise<void> | null {
    return this.#out.drained();
  }

  plain(answer: PlainAnswer): null {
    if (this.#out.respond(answer)) return null;
    // The status line of a kept-alive stream is out.
    this.#write(answer.body.replace(/\s*\n\s*/g, ' '));
    this.#out.end(DONE);
    return null;
  }

  end(last: readonly ChunkJson[], report: object): null {
    this.#waiting.forEach(({ data }, index) => {
      this.#write(index === 0 && last.length === 0 ? withField(data, 'sortie', report) : data);
    });
    for (const chunk of last) this.#write(JSON.stringify(chunk));
    this.#out.end(DONE);
    return null;
  }

  fail(thrown: unknown): null {
    broken(this.#out, toApiError(thrown));
    return null;
  }

  #write(data: string): void {
    this.#out.write(`data: ${data}\n\n`);
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

  plain(answer: PlainAnswer): PlainAnswer {
    return answer;
  }

  end(last: readonly ChunkJson[], report: object, headers: Readonly<Record<string, string>>): PlainAnswer {
    for (const chunk of last) this.#whole.add(chunk);
    const body = JSON.stringify(this.#whole.body({ sortie: report }));
    return { status: 200, headers: { 'content-type': 'application/json; charset=utf-8', ...headers }, body };
  }

  fail(thrown: ApiError): never {
    throw thrown;
  }
}
