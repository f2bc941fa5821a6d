/** Streams of chunks, as completions and chat completions have them. Must not know: the chunks' forms (passed in). */
import type { ApiContext, ApiRequest } from '../context.js';
import type { Answer } from './answer.js';
import type { FinishReason, Piece } from './choice.js';
import type { AnswerEvents, Collected, Endpoint, SendEvent } from './endpoint.js';
import type { GenerationPlan } from './request.js';

/** The chunks of one endpoint. */
export interface ChunkShapes {
  delta(answer: Answer, index: number, piece: Piece, first: boolean): object;
  finish(answer: Answer, index: number, reason: FinishReason): object;
  /** A chunk without choices, which carries usage. */
  empty(answer: Answer): object;
}

/** An endpoint whose stream is a list of chunks. */
export interface ChunkEndpoint<Body> {
  /** The client gets the answer's id with this prefix. */
  readonly idPrefix: string;
  /** @throws ApiError for a request that the endpoint rejects */
  plan(context: ApiContext, request: ApiRequest<Body>): Promise<GenerationPlan>;
  /** The body of a whole answer, without usage and report. */
  whole(context: ApiContext, answer: Answer, choices: readonly Collected[]): object;
  chunks(context: ApiContext): ChunkShapes;
}

/** The only piece of an empty answer. */
const NOTHING: Piece = { text: '', tokens: [], call: null };

function chunkEvents(shapes: ChunkShapes, send: SendEvent): AnswerEvents {
  const begun = new Set<number>();
  const sendChunk = (answer: Answer, chunk: object, extra: object = {}): void => {
    const { plan } = answer;
    const usage = plan.continuousUsage
      ? { usage: answer.usage(), sortie: { exit_layers: answer.exitLayers() } }
      : plan.includeUsage
        ? { usage: null }
        : {};
    send({ ...chunk, ...usage, ...extra });
  };
  return {
    delta(answer, index, piece) {
      const first = !begun.has(index);
      begun.add(index);
      sendChunk(answer, shapes.delta(answer, index, piece, first));
    },
    finished(answer, index, reason, last) {
      if (!begun.has(index)) sendChunk(answer, shapes.delta(answer, index, NOTHING, true));
      const report = last && !answer.plan.includeUsage ? { sortie: answer.report() } : {};
      sendChunk(answer, shapes.finish(answer, index, reason), report);
    },
    done(answer, report) {
      if (answer.plan.includeUsage) sendChunk(answer, shapes.empty(answer), { usage: answer.usage(), sortie: report });
    },
    failed(_answer, error) {
      send(error.body());
    },
  };
}

/** The endpoint with OpenAI's rules for a stream of chunks: usage in an own chunk, the report in the last one, [DONE]. */
export function ofChunks<Body>(endpoint: ChunkEndpoint<Body>): Endpoint<Body> {
  return {
    idPrefix: endpoint.idPrefix,
    plan: (context, request) => endpoint.plan(context, request),
    whole: (context, _request, answer, choices) => ({
      ...endpoint.whole(context, answer, choices),
      usage: answer.usage(),
    }),
    events: (context, _request, send) => chunkEvents(endpoint.chunks(context), send),
    terminator: '[DONE]',
  };
}
