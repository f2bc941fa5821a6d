/**
 * Runs an answer in one of two ways: collected into one body, or as a stream of events.
 *
 * It keeps the order of events that clients rely on. Must not know: an endpoint's plan and forms (passed in), HTTP.
 */
import { Answer, type AnswerListener } from './answer.js';
import type { CallPart } from './call-reader.js';
import type { ChoiceToken, FinishReason, Piece } from './choice.js';
import type { ApiContext, ApiRequest, EventStream, JsonAnswer } from '../context.js';
import type { GenerationPlan } from './request.js';
import { answeredAttributes, askedAttributes } from './trace-attributes.js';

/** A collected choice. */
export interface Collected {
  text: string;
  readonly tokens: ChoiceToken[];
  readonly calls: CallPart[];
  finishReason: FinishReason;
}

/** The chunks of one endpoint. */
export interface ChunkShapes {
  delta(answer: Answer, index: number, piece: Piece, first: boolean): object;
  finish(answer: Answer, index: number, reason: FinishReason): object;
  /** A chunk without choices, which carries usage. */
  empty(answer: Answer): object;
}

/** The only piece of an empty answer. */
const NOTHING: Piece = { text: '', tokens: [], call: null };

/** The parts of an endpoint. */
export interface Endpoint<Body> {
  /** @throws ApiError for a request that the endpoint rejects */
  plan(context: ApiContext, request: ApiRequest<Body>): Promise<GenerationPlan>;
  /** The body of a whole answer, without usage and report. */
  whole(context: ApiContext, answer: Answer, choices: readonly Collected[]): object;
  chunks(context: ApiContext): ChunkShapes;
}

/**
 * Serves the answer in one body. If the client disconnects, the answer is cancelled, and the promise stays pending.
 * @throws ApiError if the request is rejected or fails
 */
export async function serveWhole<Body>(
  context: ApiContext,
  request: ApiRequest<Body>,
  endpoint: Endpoint<Body>,
): Promise<JsonAnswer> {
  const plan = await endpoint.plan(context, request);
  request.trace?.describe(askedAttributes(plan));
  const settle = request.caller.reserve(plan.reserved);
  return new Promise((resolve, reject) => {
    const choices: Collected[] = Array.from({ length: plan.prompts.length * plan.n }, () => ({
      text: '',
      tokens: [],
      calls: [],
      finishReason: 'length',
    }));
    const listener: AnswerListener = {
      delta(index, { text, tokens, call }) {
        const choice = choices[index];
        if (choice === undefined) return;
        choice.text += text;
        choice.tokens.push(...tokens);
        if (call !== null) choice.calls.push(call);
      },
      finished(index, reason) {
        const choice = choices[index];
        if (choice !== undefined) choice.finishReason = reason;
      },
      done() {
        const report = answer.report();
        request.addLogFields(logFields(answer, report));
        const reasons = choices.map(({ finishReason }) => finishReason);
        request.trace?.describe(answeredAttributes(answer, reasons));
        resolve({
          headers: answer.headers(),
          body: { ...endpoint.whole(context, answer, choices), usage: answer.usage(), sortie: report },
        });
      },
      failed(error) {
        request.trace?.describe({ 'error.type': error.code });
        reject(error);
      },
    };
    const answer = new Answer(context, plan, request, listener, settle);
    cancelWhenGone(answer, request.signal);
    answer.start();
  });
}

/**
 * Streams an answer. The status line goes out with the first token, so that a rejection is still a plain error.
 * @param open takes the response over once the request is accepted; its argument returns the headers known when the
 * status line goes out
 * @throws ApiError like serveWhole, until the first byte is sent
 */
export async function serveStream<Body>(
  context: ApiContext,
  request: ApiRequest<Body>,
  endpoint: Endpoint<Body>,
  open: (headers: () => Readonly<Record<string, string>>) => EventStream,
): Promise<void> {
  const plan = await endpoint.plan(context, request);
  const shapes = endpoint.chunks(context);
  request.trace?.describe(askedAttributes(plan));
  const settle = request.caller.reserve(plan.reserved);
  const out = open(() => answer.headers());
  const begun = new Set<number>();
  const reasons: string[] = [];
  const send = (chunk: object, extra: object = {}): void => {
    out.open();
    const usage = plan.continuousUsage
      ? { usage: answer.usage(), sortie: { exit_layers: answer.exitLayers() } }
      : plan.includeUsage
        ? { usage: null }
        : {};
    out.send(JSON.stringify({ ...chunk, ...usage, ...extra }));
  };
  const listener: AnswerListener = {
    delta(index, piece) {
      const first = !begun.has(index);
      begun.add(index);
      send(shapes.delta(answer, index, piece, first));
    },
    finished(index, reason, last) {
      reasons[index] = reason;
      if (!begun.has(index)) send(shapes.delta(answer, index, NOTHING, true));
      const report = last && !plan.includeUsage ? { sortie: answer.report() } : {};
      send(shapes.finish(answer, index, reason), report);
    },
    done() {
      const report = answer.report();
      if (plan.includeUsage) send(shapes.empty(answer), { usage: answer.usage(), sortie: report });
      request.addLogFields(logFields(answer, report));
      request.trace?.describe(answeredAttributes(answer, reasons));
      out.end();
    },
    failed(error) {
      request.trace?.describe({ 'error.type': error.code });
      // A stream that has begun has status 200, so the status in the log line would hide the failure.
      request.addLogFields(error.logged());
      out.fail(error);
    },
  };
  const answer = new Answer(context, plan, request, listener, settle);
  cancelWhenGone(answer, request.signal);
  answer.start();
}

function cancelWhenGone(answer: Answer, gone: AbortSignal): void {
  const cancel = (): void => {
    answer.cancel();
  };
  if (gone.aborted) cancel();
  else gone.addEventListener('abort', cancel);
}

function logFields(answer: Answer, report: object): Record<string, unknown> {
  const { prompt_tokens, completion_tokens } = answer.usage();
  return { model: answer.plan.modelName, prompt_tokens, completion_tokens, sortie: report };
}
