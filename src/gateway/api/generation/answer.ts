/**
 * All choices of one request: starts their sequences, reads their events, adds up their usage.
 *
 * Must not know: JSON forms of an endpoint, HTTP.
 */
import type { SequenceEvent, SequenceEvents } from '../../engine-client/sequence-events.js';
import type { EndedEvent } from '../../../protocol/index.js';
import { isUnfinished, LANDING_OPENS } from '../../../protocol/outcome.js';
import { ApiError, toApiError } from '../errors.js';
import { codePointLength } from '../../text/code-points.js';
import { Choice, type ChoiceEnd, type Piece } from './choice.js';
import { readyEngine, type ApiContext, type ApiRequest, type EventStream } from '../context.js';
import type { GenerationRequest } from './read-request.js';
import { emptyAnswer, engineError, failure, queueFull, unfinishedAnswer } from './engine-errors.js';
import { reportOf, rounded } from '../../telemetry/answer-record.js';
import { choiceOutcome, expectedTokens, type LocalRecord, recordOf, usageOf } from './report.js';
import type { HeadersOf, planHeaders } from '../schemas/headers.js';
import type { SortieReport } from '../schemas/report.js';
import type { Usage } from '../schemas/shared.js';

type Client = Pick<ApiRequest<unknown>, 'signal' | 'trace' | 'addLogFields'>;

export class Answer {
  readonly created = Math.floor(Date.now() / 1000);
  readonly choices: readonly Choice[];
  #left: number;
  /** Ends of choices that the reader has not taken. */
  readonly #ended: ChoiceEnd[] = [];
  /** Pieces on their way to the reader, the next one last. */
  readonly #untaken: Piece[] = [];
  /** The end of the last choice. */
  #last: ChoiceEnd | null = null;
  /** Whether the reader has any piece. */
  #isGiven = false;
  /** When the last choice ended. */
  #finishedAt: number | null = null;
  #record: LocalRecord | null = null;

  /**
   * @param isStream whether text goes out as it comes
   * @param releaseQuota called once at the end of the answer, with the tokens used
   */
  constructor(
    private readonly context: ApiContext,
    readonly request: GenerationRequest,
    private readonly client: Client,
    private readonly isStream: boolean,
    private readonly releaseQuota: (tokens: number) => void,
  ) {
    this.choices = request.engine.sequences.map((_, index) => this.#choice(index));
    this.#left = this.choices.length;
  }

  /**
   * Starts the sequences and gives the pieces of all choices as they come, once. A reader that returns early cancels
   * the sequences. While the client reads slowly, pieces wait and grow, and stop strings still end their sequences.
   * @param out the response that they are written to; absent: they are collected
   * @throws ApiError for a request that is rejected or fails, ClientGone
   */
  async *pieces(out?: Pick<EventStream, 'drained'>): AsyncGenerator<Piece, void, undefined> {
    const { signal } = this.client;
    let isWaiting = false;
    try {
      signal.throwIfAborted();
      const sequences = this.#start();
      const leave = (): void => void sequences.return();
      signal.addEventListener('abort', leave);
      for await (const events of sequences) {
        for (const event of events) this.#hear(event);
        // A whole answer may go back behind text that it has.
        if (out === undefined) continue;
        // A client that reads on gets the pieces one by one: all at once would fill its connection's buffer again.
        for (let piece = this.#next(out); piece !== null; piece = this.#next(out)) yield piece;
        const draining = out.drained();
        if (draining !== null && !isWaiting) {
          isWaiting = true;
          void draining.then(() => {
            isWaiting = false;
            sequences.wake();
          });
        }
      }
      await out?.drained();
      signal.throwIfAborted();
      if (this.#last !== null) this.#ended.push(this.#last);
      for (let piece = this.#next(); piece !== null; piece = this.#next()) {
        yield piece;
        await out?.drained();
        signal.throwIfAborted();
      }
    } finally {
      this.#close();
    }
  }

  /** The next piece; null if there is none, or the client does not read. */
  #next(out?: Pick<EventStream, 'drained'>): Piece | null {
    if ((out?.drained() ?? null) !== null) return null;
    if (this.#untaken.length === 0) this.#take();
    return this.#untaken.pop() ?? null;
  }

  /** Takes the deltas of all choices, and the ends behind them. */
  #take(): void {
    for (const choice of this.choices) choice.take(this.#untaken);
    // Before any text, the other choices may turn out to be empty as well.
    if (this.#untaken.length > 0 || this.#isGiven || this.#left === 0) this.#untaken.push(...this.#ended.splice(0));
    this.#isGiven ||= this.#untaken.length > 0;
    this.#untaken.reverse();
  }

  promptOf(index: number) {
    const { prompts, engine } = this.request;
    const prompt = prompts[engine.sequences[index]?.prompt ?? -1];
    if (prompt === undefined) throw new RangeError(`no choice ${index}`);
    return prompt;
  }

  #start(): SequenceEvents {
    const context = this.context;
    const { engine, prompts } = this.request;
    const { arrivedAt, depth, isDryRun } = engine;
    if (this.request.begun === undefined) {
      // The engine may have exited while the prompt was tokenized. Without it, the metrics would keep a sequence that
      // never ends.
      readyEngine(context);
      this.#checkRoom();
    }
    for (const [index, { id, prompt }] of engine.sequences.entries()) {
      if (isDryRun === true) break;
      const promptTokens = prompts[prompt]?.ids.length ?? 0;
      const facts = { arrivedAt, promptTokens, budget: depth.budget };
      context.metrics.begin(id, facts, this.client.trace?.sequence(index));
    }
    return this.request.begun ?? context.engine.generate(engine);
  }

  /** All choices or none: a part of a request would be work in vain. @throws ApiError queue_full */
  #checkRoom(): void {
    const { engine } = this.request;
    const tokens = engine.prompts.reduce((sum, { length }) => sum + length, 0);
    if (this.context.engine.hasRoom(engine.tenant ?? '', this.choices.length, tokens)) return;
    if (engine.isDryRun !== true) this.context.metrics.full(this.choices.length);
    throw queueFull();
  }

  /** @throws ApiError for an event that fails the request */
  #hear(event: SequenceEvent): void {
    const { index } = event;
    const choice = this.choices[index];
    if (choice === undefined) throw new RangeError(`no choice ${index}`);
    switch (event.type) {
      case 'armed':
        return;
      case 'planned':
        choice.plan = event.event;
        return;
      case 'prompt':
        choice.promptLogprobs.push(...event.event.logprobs);
        return;
      case 'token':
        if (choice.token(event.event, event.at)) this.#stop(index);
        return;
      case 'ended':
        this.#end(choice, index, event.event, event.heardAt);
        return;
      case 'rejected': {
        const { reason, detail } = event.event;
        if (reason === 'grammars_lost' && detail !== undefined) this.client.addLogFields({ fault: detail });
        throw engineError(event.event, this.request.grammar);
      }
      case 'lost':
        throw new ApiError('engine_lost', 'The engine exited during this request and restarts.');
    }
  }

  #end(choice: Choice, index: number, event: EndedEvent, heardAt: number): void {
    if (event.reason === 'error') {
      if (event.error !== null) this.client.addLogFields({ fault: event.error });
      throw failure(event, this.request.grammar);
    }
    if (event.reason === 'cancelled' && !choice.isStopped)
      throw new ApiError('draining', 'The server is shutting down and cancelled this request.');
    choice.end = event;
    const finishReason = choice.ended(event);
    choice.outcome = choiceOutcome(this.request.engine, choice, event, heardAt);
    if (!choice.isStopped && isUnfinished(event.reason, choice.plan?.landing)) throw unfinishedAnswer(choice.outcome);
    const end = { index, finishReason, isLast: --this.#left === 0 };
    if (end.isLast && !this.#isGiven && this.#isAllEmpty()) throw emptyAnswer();
    if (!end.isLast) this.#ended.push(end);
    else [this.#last, this.#finishedAt] = [end, heardAt];
  }

  /** Whether every choice came to its deadline without output. */
  #isAllEmpty(): boolean {
    return this.choices.every(({ end, outcome }) => end?.reason === 'deadline' && outcome === 'empty');
  }

  get model() {
    return this.context.model;
  }

  usage(): Usage {
    return usageOf(this.request, this.choices);
  }

  report(): SortieReport {
    return reportOf(this.record());
  }

  /** The answer as its client has it, made once at its end. @param error the end of one that failed */
  record(error: ApiError | null = null): LocalRecord {
    if (error === null && this.#record !== null) return this.#record;
    const record = recordOf(this.request, this.choices, this.context.model.exits, this.#finishedAt, error);
    if (this.#finishedAt !== null) this.#record = record;
    return record;
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
      this.client.addLogFields({
        fault: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
      });
      // The engine has not ended its sequences yet: the metrics would count their cancel as the client's.
      for (const { id } of this.request.engine.sequences) this.context.metrics.broken(id);
    }
    return toApiError(thrown);
  }

  #close(): void {
    const { engine } = this.request;
    const isBegun = engine.isDryRun !== true && this.choices.some(({ plan }) => plan !== null);
    this.releaseQuota(isBegun ? this.usage().total_tokens : 0);
  }

  /** Ends the sequence of a choice whose text is complete. */
  #stop(index: number): void {
    const id = this.request.engine.sequences[index]?.id;
    if (id !== undefined) this.context.engine.cancel(id, 'stop');
  }

  #choice(index: number): Choice {
    const { echo, stops, engine, grammar, thoughts } = this.request;
    const total = engine.depth.budget?.totalMs ?? null;
    return new Choice(index, {
      // Some models have tags that are special tokens, which a text leaves out.
      detokenizer: this.context.model.tokenizer.detokenizer({ shown: Object.values(thoughts?.tags ?? {}) }),
      stops,
      minTokens: engine.minTokens,
      maxTokens: engine.sequences[index]?.maxTokens ?? 0,
      echoLength: echo ? codePointLength(this.promptOf(index).text) : 0,
      showsEndToken: echo,
      grammar,
      keepsTokens: engine.logprobs !== null,
      isWhole: !this.isStream,
      ...(total !== null && { opensAt: engine.arrivedAt + LANDING_OPENS * total }),
      seeksSentence: engine.depth.budget?.sentenceMs !== undefined,
      thoughts,
    });
  }
}
