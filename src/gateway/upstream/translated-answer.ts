/**
 * The answers of an upstream in pieces, and answers in the form of another API.
 *
 * Must not know: landings, the forms of APIs.
 */
import { ApiError, ClientGone } from '../api/errors.js';
import { type PlainAnswer, type UpstreamCall, formOf } from './call.js';
import type { Chunk } from './chunk.js';
import { ChunkReader } from './chunk-reader.js';
import { bytesIn, connectionError, leaveBody, type UpstreamResponse, wholeBody } from './connection.js';
import type { Exchange } from './exchange.js';
import { Output } from './output.js';
import { DONE, plainAnswer } from './pass-through.js';
import { arrivals } from './sse-events.js';
import type { UpstreamSettings } from './upstream-body.js';

/**
 * The chunks of an answer, up to its end. A whole answer is one chunk.
 * @throws ApiError upstream_failed for another text, or without an end
 */
export async function* chunksOf(
  response: UpstreamResponse,
  call: UpstreamCall,
  exchange: Exchange,
): AsyncGenerator<Chunk, void, undefined> {
  const { body, isStream } = response;
  const chunks = new ChunkReader({}, (text) => exchange.withoutKey(text));
  const read = (data: string): Chunk => {
    const chunk = chunks.read(data);
    exchange.hold(chunk);
    return chunk;
  };
  if (!isStream) {
    yield read(await wholeBody(response, call.request.signal, exchange.held));
    return;
  }
  const ended = new Set<number>();
  let isTold = false;
  try {
    for await (const events of arrivals(bytesIn(response), exchange.held)) {
      for (const event of events) {
        // Comments are no sign of an answer. The gateway sends its own.
        if (event.type === 'comment') continue;
        isTold = event.data === DONE;
        if (isTold) break;
        const chunk = read(event.data);
        for (const piece of chunk.pieces) if ('finishReason' in piece) ended.add(piece.index);
        yield chunk;
      }
      if (isTold) break;
    }
    // Some upstreams give fewer choices than the request asks for.
    if (ended.size < (isTold ? 1 : formOf(call).choices))
      throw new ApiError('upstream_failed', 'The stream of the upstream ended early.');
  } finally {
    if (isTold) leaveBody(body);
    else body.destroy();
  }
}

/**
 * Answers without a deadline in the form of another API.
 * @returns the whole answer; null for one that went out as a stream
 * @throws ApiError upstream_failed, ClientGone
 */
export async function translatedAnswer(
  call: UpstreamCall,
  { budget }: UpstreamSettings,
  exchange: Exchange,
): Promise<PlainAnswer | null> {
  const { arrivedAt, signal } = call.request;
  const output = new Output(call, exchange.held, null);
  try {
    const response = await exchange.ask(budget === null ? null : arrivedAt + budget.totalMs, signal);
    if (response.status >= 300) {
      const plain = await plainAnswer(response, {}, exchange, signal);
      exchange.record();
      return output.plain(plain);
    }
    for await (const { json, pieces } of chunksOf(response, call, exchange)) {
      output.read(json);
      for (const piece of pieces) output.send(piece);
      await output.drained();
      signal.throwIfAborted();
    }
    return output.end({ usage: exchange.usage });
  } catch (thrown) {
    const error = connectionError(thrown, signal);
    if (error instanceof ClientGone && output.isSeen) return null;
    if (!(error instanceof ClientGone)) exchange.broke('upstream_failed');
    return output.fail(exchange.failed(error));
  }
}
