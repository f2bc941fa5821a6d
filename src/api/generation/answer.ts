/**
 * All choices of one request: starts their sequences, reads their events, adds up their usage.
 *
 * Must not know: JSON forms of an endpoint, HTTP.
 */
import { randomBytes } from 'node:crypto';
import type { SequenceEvent, SequenceEvents } from '../../engine-client/sequence-events.js';
import type { AuditEvent, EndedEvent, EngineRequest } from '../../protocol/index.js';
import { ApiError, toApiError } from '../errors.js';
import { codePointLength } from '../../util/code-points.js';
import { Choice, type ChoiceEnd, type Piece } from './choice.js';
import { readyEngine, type ApiContext, type ApiRequest } from '../context.js';
import type { GenerationPlan } from './request.js';
import { engineError, failure, queueFull } from './engine-errors.js';
import { AUDIT_WAIT_MS, auditReport } from './audit-report.js';
import { exitLayersOf, expectedTokens, reportOf, rounded, usageOf } from './report.js';
import { ofChoice, samplingFields } from '../params/sampling.js';
import type { HeadersOf, planHeaders } from '../schemas/headers.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';

type AnsweredRequest = Pick<ApiRequest<unknown>, 'arrivedAt' | 'signal' | 'trace' | 'addLogFields'>;

export class Answer implements AsyncIterable<Piece> {
  /** Unique on this server. The id of a choice adds its index. */
  readonly id = randomBytes(12).toString('hex');
  readonly created = Math.floor(Date.now() / 1000);
  readonly choices: readonly Choice[];
  readonly #ends: (EndedEvent | undefined)[] = [];
  #left: number;
  /** Ends of choices that the reader has not taken. */
  readonly #ended: ChoiceEnd[] = [];
  /** The last end comes after the audits. */
  #last: ChoiceEnd | null = null;
  /** When the last choice ended. */
  #finishedAt: number | null = null;
  /** By the index of the choice; null where the engine exited first. */
  readonly #audits = new Map<number, AuditEvent | null>();
  readonly #context: ApiContext;
  readonly #request: AnsweredRequest;
  readonly #settle: (tokens: number) => void;
  readonly #drained: () => Promise<void> | null;

  /**
   * @param settle called once at the end of the answer, with the tokens used
   * @param drained gives a promise while the client reads more slowly than the answer grows, else null
   */
  constructor(
    context: ApiContext,
    readonly plan: GenerationPlan,
    request: AnsweredRequest,
    settle: (tokens: number) => void,
    drained: () => Promise<void> | null = () => null,
  ) {
    this.#context = context;
    this.#request = request;
    this.#settle = settle;
    this.#drained = drained;
    const count = plan.prompts.length * plan.n;
    this.#left = count;
    this.choices = Array.from({ length: count }, (_, index) => this.#choice(index));
  }

  /**
   * Starts the sequences and gives the pieces of all choices as they come, once. A reader that returns early cancels the
   * sequences. While the client reads slowly, pieces wait and grow, and stop strings still end their sequences.
   * @throws ApiError for a request that is rejected or fails, ClientGone
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, undefined> {
    const { signal } = this.#request;
    let auditTimer: NodeJS.Timeout | undefined;
    let isWaiting = false;
    try {
      signal.throwIfAborted();
      const sequences = this.#start();
      const leave = (): void => void sequences.return();
      signal.addEventListener('abort', leave);
      for await (const events of sequences) {
        for (const event of events) this.#hear(event);
        if (this.plan.audit && this.#finishedAt !== null)
          auditTimer ??= setTimeout(leave, this.#auditWaitMs(this.#finishedAt));
        const draining = this.#drained();
        if (draining === null) {
          for (const piece of this.#taken()) yield piece;
        } else if (!isWaiting) {
          isWaiting = true;
          void draining.then(() => {
            isWaiting = false;
            sequences.wake();
          });
        }
      }
      await this.#drained();
      signal.throwIfAborted();
      if (this.#last !== null) this.#ended.push(this.#last);
      for (const piece of this.#taken()) yield piece;
    } finally {
      clearTimeout(auditTimer);
      this.#close();
    }
  }

  /** The pieces since the last call. */
  #taken(): Piece[] {
    const pieces: Piece[] = [];
    for (const choice of this.choices) choice.take(pieces);
    if (this.#ended.length > 0) pieces.push(...this.#ended.splice(0));
    return pieces;
  }

  promptOf(index: number) {
    const prompt = this.plan.prompts[Math.floor(index / this.plan.n)];
    if (prompt === undefined) throw new RangeError(`no choice ${index}`);
    return prompt;
  }

  #start(): SequenceEvents {
    const context = this.#context;
    const { arrivedAt, trace } = this.#request;
    const { isDryRun, budget } = this.plan;
    // The engine may have exited while the prompt was tokenized. Without it, the metrics would keep a sequence that
    // never ends.
    readyEngine(context);
    this.#checkRoom();
    const requests = this.choices.map((_, index) => this.#sequence(index));
    for (const [index, { id, prompt, maxTokens }] of requests.entries()) {
      if (isDryRun) break;
      const facts = { arrivedAt, promptTokens: prompt.length, maxTokens, budget };
      context.metrics.begin(id, facts);
      trace?.begin(id, index, facts);
    }
    return context.engine.generate(requests);
  }

  #sequence(index: number): EngineRequest {
    const { plan } = this;
    const maxTokens = plan.maxTokens[Math.floor(index / plan.n)] ?? 0;
    return {
      id: this.#idOf(index),
      arrivedAt: this.#request.arrivedAt,
      prompt: this.promptOf(index).ids,
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
    };
  }

  /** All choices or none: a part of a request would be work in vain. @throws ApiError queue_full */
  #checkRoom(): void {
    const { tenant, prompts, n, budget, isDryRun } = this.plan;
    const tokens = prompts.reduce((sum, { ids }) => sum + ids.length * n, 0);
    if (this.#context.engine.hasRoom(tenant, this.choices.length, tokens)) return;
    if (!isDryRun) this.#context.metrics.full(this.choices.length, budget);
    throw queueFull();
  }

  /** @throws ApiError for an event that fails the request */
  #hear(event: SequenceEvent): void {
    const { index } = event;
    const choice = this.choices[index];
    if (choice === undefined) throw new RangeError(`no choice ${index}`);
    switch (event.type) {
      case 'planned':
        choice.plan = event.event;
        return;
      case 'prompt':
        choice.promptLogprobs.push(...event.event.logprobs);
        return;
      case 'token':
        if (choice.token(event.event, event.at)) this.#context.engine.cancel(this.#idOf(index), 'stop');
        return;
      case 'ended':
        this.#end(choice, index, event.event, event.heardAt);
        return;
      case 'audited':
        this.#audits.set(index, event.event);
        return;
      case 'rejected': {
        const { reason, detail } = event.event;
        if (reason === 'grammars_lost' && detail !== undefined) this.#request.addLogFields({ fault: detail });
        throw engineError(event.event, this.plan.grammar, (layer) => this.#qualityOf(layer));
      }
      case 'lost':
        throw new ApiError('engine_lost', 'The engine exited during this request and restarts.');
    }
  }

  #end(choice: Choice, index: number, event: EndedEvent, heardAt: number): void {
    if (event.reason === 'error') {
      if (event.error !== null) this.#request.addLogFields({ fault: event.error });
      throw failure(event, this.plan.grammar);
    }
    if (event.reason === 'cancelled' && !choice.isStopped)
      throw new ApiError('draining', 'The server is shutting down and cancelled this request.');
    this.#ends[index] = event;
    const end = { index, finishReason: choice.ended(event), isLast: --this.#left === 0 };
    if (!end.isLast) this.#ended.push(end);
    else [this.#last, this.#finishedAt] = [end, heardAt];
  }

  /** How long the report may wait for audits: not beyond the budget. */
  #auditWaitMs(endedAt: number): number {
    const overAt = this.#request.arrivedAt + (this.plan.budget?.totalMs ?? Infinity);
    return Math.max(0, Math.min(AUDIT_WAIT_MS, overAt - endedAt));
  }

  #qualityOf(layer: number): number {
    return this.plan.depth.quality[this.#context.model.exits.findIndex((exit) => exit.layer === layer)] ?? 0;
  }

  usage(): Usage {
    return usageOf(this.plan, this.choices, this.#ends);
  }

  /** Tokens of all choices so far by the exit layer that emitted them. */
  exitLayers(): SortieReport['exit_layers'] {
    return exitLayersOf(this.choices);
  }

  report(): SortieReport {
    const { plan, choices } = this;
    const { arrivedAt } = this.#request;
    return {
      ...reportOf({ plan, choices, ends: this.#ends, arrivedAt, finishedAt: this.#finishedAt }),
      ...(plan.showsSampling && { sampling: samplingFields(plan.sampling) }),
      ...(plan.audit && { audit: auditReport(this.#audits, choices, this.#context.model.tokenizer) }),
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

  /** The error for the client. Any thrown value except an ApiError is a fault of the server. */
  failed(thrown: unknown): ApiError {
    if (!(thrown instanceof ApiError)) {
      this.#request.addLogFields({
        fault: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
      });
      // The engine has not ended its sequences yet: the metrics would count their cancel as the client's.
      for (const index of this.choices.keys()) this.#context.metrics.broken(this.#idOf(index));
    }
    return toApiError(thrown);
  }

  #close(): void {
    const isBegun = !this.plan.isDryRun && this.choices.some(({ plan }) => plan !== null);
    if (isBegun) {
      const tokens = this.choices.map(({ completionTokens }) => completionTokens);
      this.#context.metrics.requested(this.plan.n, tokens);
    }
    this.#settle(isBegun ? this.usage().total_tokens : 0);
  }

  #idOf(index: number): string {
    return `${this.id}-${index}`;
  }

  #choice(index: number): Choice {
    const { plan } = this;
    return new Choice(index, {
      // Some models have tags that are special tokens, which a text leaves out.
      detokenizer: this.#context.model.tokenizer.detokenizer({ shown: Object.values(plan.thoughts?.tags ?? {}) }),
      stops: plan.stops,
      minTokens: plan.minTokens,
      echoLength: plan.echo ? codePointLength(this.promptOf(index).text) : 0,
      showsEndToken: plan.echo,
      grammar: plan.grammar,
      thoughts: plan.thoughts,
    });
  }
}
