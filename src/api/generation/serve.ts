/**
 * Runs an answer in one of two ways: collected into one body, or as a stream of events.
 *
 * It keeps the order of events that clients rely on. Must not know: an endpoint's plan and forms (passed in), HTTP.
 */
import { Answer, type AnswerListener } from './answer.js';
import type { ApiContext, ApiRequest, EventStream, JsonAnswer, Reservation } from '../context.js';
import type { GenerationPlan } from './request.js';
import type { Collected, Endpoint } from './endpoint.js';
import { answeredAttributes, askedAttributes } from './trace-attributes.js';

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
  request.trace?.describe(askedAttributes(plan, false));
  const settle = request.caller.reserve(reservation(plan));
  return new Promise((resolve, reject) => {
    const choices: Collected[] = Array.from({ length: plan.prompts.length * plan.n }, () => ({
      text: '',
      reasoning: '',
      tokens: [],
      calls: [],
      finishReason: 'length',
    }));
    const listener: AnswerListener = {
      delta(index, { text, tokens, call, reasoning = '' }) {
        const choice = choices[index];
        if (choice === undefined) return;
        choice.text += text;
        choice.reasoning += reasoning;
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
        request.trace?.describe(answeredAttributes(answer, endpoint.idPrefix + answer.id, reasons));
        resolve({
          headers: answer.headers(),
          body: { ...endpoint.whole(context, request, answer, choices), sortie: report },
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
  request.trace?.describe(askedAttributes(plan, true));
  const settle = request.caller.reserve(reservation(plan));
  const out = open(() => answer.headers());
  const events = endpoint.events(context, request, (data, name) => {
    out.open();
    out.send(JSON.stringify(data), name);
  });
  const reasons: string[] = [];
  const listener: AnswerListener = {
    delta(index, piece) {
      events.delta(answer, index, piece);
    },
    finished(index, reason, last) {
      reasons[index] = reason;
      events.finished(answer, index, reason, last);
    },
    done() {
      const report = answer.report();
      events.done(answer, report);
      request.addLogFields(logFields(answer, report));
      request.trace?.describe(answeredAttributes(answer, endpoint.idPrefix + answer.id, reasons));
      out.end(endpoint.terminator);
    },
    failed(error) {
      request.trace?.describe({ 'error.type': error.code });
      // A stream that has begun has status 200, so the status in the log line would hide the failure.
      request.addLogFields(error.logged());
      if (out.reject(error)) return;
      events.failed(answer, error);
      out.end(endpoint.terminator);
    },
  };
  const answer = new Answer(context, plan, request, listener, settle);
  cancelWhenGone(answer, request.signal);
  answer.start();
}

function reservation({ reserved, maxTokensParam, prompts, n }: GenerationPlan): Reservation {
  return { tokens: reserved, maxTokensParam, answers: prompts.length * n };
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
  const { modelName, budget, isDryRun } = answer.plan;
  // Without completion_tokens the line is not an answered request.
  if (isDryRun) return { model: modelName, prompt_tokens, dry_run: true };
  // `sortie simulate` reads the whole budget from the log; the client knows its own.
  const stated = { slo_ttft_ms: budget?.ttftMs ?? null, slo_tpot_ms: budget?.tpotMs ?? null };
  return { model: modelName, prompt_tokens, completion_tokens, sortie: { ...report, ...stated } };
}
