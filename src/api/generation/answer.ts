/**
 * All choices of one request: starts them, cancels them together, adds up their usage.
 *
 * Must not know: JSON forms of an endpoint, HTTP.
 */
import { randomBytes } from 'node:crypto';
import { monotonicMs } from '../../util/clock.js';
import type { DraftSource, EndedEvent } from '../../engine/protocol.js';
import { ApiError, toApiError } from '../errors.js';
import { codePointLength } from '../../util/code-points.js';
import { Choice, type FinishReason, type Piece } from './choice.js';
import { readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import type { GenerationPlan } from './request.js';
import { queueFull } from './engine-errors.js';
import { withErrorBoundary } from './error-boundary.js';
import { Receipt } from './receipt.js';
import { expectedTokens, reportOf, rounded } from './report.js';
import { ofChoice, samplingFields } from '../params/sampling.js';
import type { HeadersOf, planHeaders } from '../schemas/headers.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';

export interface AnswerListener {
  delta(index: number, piece: Piece): void;
  /** @param last whether it was the last choice: `done` follows */
  finished(index: number, reason: FinishReason, last: boolean): void;
  /** Called after the last choice has finished. */
  done(): void;
  /** The whole request failed, and the other choices are cancelled. It is called at most once, as the last call. */
  failed(error: ApiError): void;
}

type AnsweredRequest = Pick<ApiRequest<unknown>, 'arrivedAt' | 'trace' | 'addLogFields'>;

export class Answer {
  /** Unique on this server. The id of a choice adds its index. */
  readonly id = randomBytes(12).toString('hex');
  readonly created = Math.floor(Date.now() / 1000);
  readonly choices: readonly Choice[];
  readonly #ends: (EndedEvent | undefined)[] = [];
  #left: number;
  #over = false;
  /** When the last choice finished. */
  #finishedAt: number | null = null;
  /** Null unless the client asks for an audit. */
  readonly #receipt: Receipt | null;
  readonly #context: ApiContext;
  readonly #request: AnsweredRequest;
  readonly #listener: AnswerListener;
  readonly #settle: (tokens: number) => void;

  /** @param settle called once at the end of the answer, with the tokens used */
  constructor(
    context: ApiContext,
    readonly plan: GenerationPlan,
    request: AnsweredRequest,
    listener: AnswerListener,
    settle: (tokens: number) => void,
  ) {
    this.#context = context;
    this.#request = request;
    this.#listener = listener;
    this.#settle = settle;
    const count = plan.prompts.length * plan.n;
    this.#left = count;
    this.#receipt = plan.audit ? new Receipt(count) : null;
    this.choices = Array.from({ length: count }, (_, index) => this.#choice(index));
  }

  promptOf(index: number) {
    const prompt = this.plan.prompts[Math.floor(index / this.plan.n)];
    if (prompt === undefined) throw new RangeError(`no choice ${index}`);
    return prompt;
  }

  start(): void {
    try {
      this.#start();
    } catch (error) {
      this.#broken(error);
    }
  }

  #start(): void {
    const { plan } = this;
    const context = this.#context;
    // The engine may have exited while the prompt was tokenized. Without it, the metrics would keep a sequence that
    // never ends.
    readyEngine(context);
    this.#checkRoom();
    this.choices.forEach((choice, index) => {
      if (this.#over) return;
      const promptIndex = Math.floor(index / plan.n);
      const maxTokens = plan.maxTokens[promptIndex] ?? 0;
      const id = this.#idOf(index);
      const prompt = this.promptOf(index).ids;
      const { arrivedAt } = this.#request;
      const facts = { arrivedAt, promptTokens: prompt.length, maxTokens, budget: plan.budget };
      if (!plan.isDryRun) {
        context.metrics.begin(id, facts);
        this.#request.trace?.begin(id, index, facts);
      }
      context.engine.generate(
        {
          id,
          arrivedAt,
          prompt,
          maxTokens,
          minTokens: plan.minTokens,
          stopTokens: plan.stopTokens,
          sampling: ofChoice(plan.sampling, index % plan.n),
          logprobs: plan.logprobs,
          promptLogprobs: plan.echo ? (plan.logprobs ?? (maxTokens === 0 ? 0 : null)) : null,
          depth: { ...plan.depth, budget: plan.budget },
          lengthGroup: plan.lengthGroup,
          tenant: plan.tenant,
          ...(plan.prefixSpace !== null && { prefixSpace: plan.prefixSpace }),
          grammar: plan.grammar?.grammar ?? null,
          prediction: plan.prediction,
          speculate: plan.speculate,
          ...(plan.isDryRun && { isDryRun: true }),
          ...(plan.audit && { audit: true }),
        },
        withErrorBoundary(
          choice,
          (error) => {
            this.#broken(error);
          },
          (event) => this.#receipt?.audited(index, event),
        ),
      );
    });
  }

  /** All choices or none: a part of a request would be work in vain. @throws ApiError queue_full */
  #checkRoom(): void {
    const { tenant, prompts, n, budget, isDryRun } = this.plan;
    const tokens = prompts.reduce((sum, { ids }) => sum + ids.length * n, 0);
    if (this.#context.engine.hasRoom(tenant, this.choices.length, tokens)) return;
    if (!isDryRun) this.#context.metrics.full(this.choices.length, budget);
    throw queueFull();
  }

  /** The client disconnected: no more output follows. */
  cancel(): void {
    if (this.#over) return;
    this.#end();
    this.choices.forEach((_, index) => {
      if (this.#ends[index] === undefined) this.#context.engine.cancel(this.#idOf(index), 'cancelled');
    });
  }

  usage(): Usage {
    const prompt = this.plan.prompts.reduce((sum, { ids }) => sum + ids.length, 0);
    const completion = this.choices.reduce((sum, choice) => sum + choice.completionTokens, 0);
    const cached = this.plan.prompts.reduce((sum, _, i) => sum + (this.#ends[i * this.plan.n]?.cachedTokens ?? 0), 0);
    const reasoning = this.choices.reduce((sum, choice) => sum + choice.reasoningTokens, 0);
    const predicted = this.#drafts('prediction');
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      prompt_tokens_details: { cached_tokens: cached },
      completion_tokens_details: {
        reasoning_tokens: reasoning,
        accepted_prediction_tokens: predicted.accepted,
        rejected_prediction_tokens: predicted.drafted - predicted.accepted,
      },
    };
  }

  /**
   * Draft counts of all choices.
   * @param from counts only this source; absent: all sources
   */
  #drafts(from?: DraftSource): { drafted: number; accepted: number } {
    const counts = this.#ends.flatMap((end) => end?.drafts ?? []);
    const counted = counts.filter(({ source }) => from === undefined || source === from);
    return {
      drafted: counted.reduce((sum, { drafted }) => sum + drafted, 0),
      accepted: counted.reduce((sum, { accepted }) => sum + accepted, 0),
    };
  }

  /** Tokens of all choices so far by the exit layer that emitted them. */
  exitLayers(): SortieReport['exit_layers'] {
    const layers: Record<string, number> = {};
    for (const { exitLayers } of this.choices) {
      for (const [layer, count] of exitLayers) layers[layer] = (layers[layer] ?? 0) + count;
    }
    return layers;
  }

  report(): SortieReport {
    const { plan } = this;
    const tokenizer = this.#context.model.tokenizer;
    return {
      ...reportOf({
        ...{ plan, choices: this.choices, ends: this.#ends, arrivedAt: this.#request.arrivedAt },
        ...{ finishedAt: this.#finishedAt, exitLayers: this.exitLayers(), drafts: this.#drafts() },
      }),
      ...(plan.showsSampling && { sampling: samplingFields(plan.sampling) }),
      ...(this.#receipt && { audit: this.#receipt.report(this.choices, tokenizer) }),
    };
  }

  /** The plan at admission, as response headers. */
  headers(): Record<string, string> {
    const plans = this.choices.flatMap((choice) => choice.plan ?? []);
    const [plan] = plans;
    if (plan === undefined) return {};
    return {
      'x-exit-layer': String(plan.exit),
      'x-predicted-ttft-ms': String(rounded(plan.predictedTtftMs)),
      'x-predicted-tpot-ms': String(rounded(plan.predictedTpotMs)),
      'x-sortie-expected-tokens': String(expectedTokens(plans)),
    } satisfies HeadersOf<typeof planHeaders>;
  }

  /** Ends the answer after a thrown error. Any error except ApiError is a fault of the server. */
  #broken(error: unknown): void {
    if (!(error instanceof ApiError)) {
      this.#request.addLogFields({ fault: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
    if (this.#over) return;
    if (!(error instanceof ApiError)) {
      // This comes before the cancel, which the metrics would count as the client's.
      this.choices.forEach((_, index) => {
        this.#context.metrics.broken(this.#idOf(index));
      });
    }
    this.cancel();
    this.#listener.failed(toApiError(error));
  }

  #end(): void {
    this.#over = true;
    this.#receipt?.drop();
    const isBegun = !this.plan.isDryRun && this.choices.some(({ plan }) => plan !== null);
    if (isBegun) {
      const tokens = this.choices.map(({ completionTokens }) => completionTokens);
      this.#context.metrics.requested(this.plan.n, tokens);
    }
    this.#settle(isBegun ? this.usage().total_tokens : 0);
  }

  /** Reports the last choice and the whole answer, after the audit if the client asks for one. */
  #finish(index: number, reason: FinishReason): void {
    this.#finishedAt = monotonicMs();
    const report = (): void => {
      if (this.#over) return;
      this.#listener.finished(index, reason, true);
      this.#listener.done();
      this.#end();
    };
    if (this.#receipt === null) report();
    else {
      const endsAt = this.#request.arrivedAt + (this.plan.budget?.totalMs ?? Infinity);
      this.#receipt.whenReady(report, endsAt - this.#finishedAt);
    }
  }

  #idOf(index: number): string {
    return `${this.id}-${index}`;
  }

  #choice(index: number): Choice {
    const { plan } = this;
    const context = this.#context;
    const listener = this.#listener;
    const spec = {
      // Some models have tags that are special tokens, which a text leaves out.
      detokenizer: context.model.tokenizer.detokenizer({ shown: Object.values(plan.thoughts?.tags ?? {}) }),
      stops: plan.stops,
      minTokens: plan.minTokens,
      echoLength: plan.echo ? codePointLength(this.promptOf(index).text) : 0,
      showsEndToken: plan.echo,
      grammar: plan.grammar,
      thoughts: plan.thoughts,
      qualityOf: (layer: number) =>
        plan.depth.quality[context.model.exits.findIndex((exit) => exit.layer === layer)] ?? 0,
    };
    return new Choice(spec, {
      delta: (piece) => {
        if (!this.#over) listener.delta(index, piece);
      },
      stopped: () => {
        context.engine.cancel(this.#idOf(index), 'stop');
      },
      finished: ({ finishReason, event }) => {
        this.#ends[index] = event;
        if (this.#over) return;
        const last = --this.#left === 0;
        if (last) this.#finish(index, finishReason);
        else listener.finished(index, finishReason, false);
      },
      failed: (error, fault) => {
        if (this.#over) return;
        if (fault !== null) this.#request.addLogFields({ fault });
        this.cancel();
        listener.failed(error);
      },
    });
  }
}
