/**
 * A deterministic engine without a model. Its answers come from a script, step by step, in real time. A test can make
 * it reject, stall and lose sequences, and read its requests.
 */
import { PLAIN } from '../../src/engine/model/architecture.js';
import { EventEmitter } from 'node:events';
import { monotonicMs } from '../../src/util/clock.js';
import type { Engine, EngineEvents } from '../../src/gateway/engine-client/engine.js';
import { OpenSequences } from '../../src/gateway/engine-client/open-sequences.js';
import { SequenceEvents } from '../../src/gateway/engine-client/sequence-events.js';
import { sequencesOf } from '../../src/protocol/request.js';
import type {
  EngineRequest,
  CancelReason,
  EndedEvent,
  EndReason,
  SequenceRequest,
  PlannedEvent,
  PromptEvent,
  ReadyMessage,
  RejectedEvent,
  StepMessage,
  TokenEvent,
  TokenLogprobs,
} from '../../src/protocol/index.js';

export interface Script {
  /** Token ids of the answer, before max_tokens cuts them. */
  readonly tokens: readonly number[];
  /** Exits of the tokens. Beyond the list, the greatest allowed exit. */
  readonly exits?: readonly number[];
  /** Rejects the request instead. */
  readonly reject?: Omit<RejectedEvent, 'id'>;
  /** The reason of the end after the tokens; absent: `stop`. */
  readonly end?: EndReason;
  /** Fields of the end that differ from the default. */
  readonly ended?: Partial<EndedEvent>;
  /** Loses the sequence after this many tokens. */
  readonly loseAfter?: number;
  /** Fields of the plan that differ from the default. */
  readonly plan?: Partial<PlannedEvent>;
  /** Milliseconds between tokens. */
  readonly pace?: number;
  /** Milliseconds before the plan. */
  readonly delay?: number;
  /** Milliseconds between the plan and the first token. */
  readonly prefill?: number;
  /** Of a net: milliseconds from its latest start to its deadline. */
  readonly sentenceMs?: number;
}

interface Live {
  readonly request: SequenceRequest;
  readonly lose: () => void;
  readonly script: Script;
  timer: NodeJS.Timeout;
  sent: number;
}

export const READY: ReadyMessage = {
  type: 'ready',
  name: 'fake',
  architecture: {
    layers: 30,
    hidden: 576,
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ffn: 1536,
    vocab: 49152,
    context: 8192,
    normEps: 1e-5,
    tiedHead: true,
    attentionScale: 0.125,
    rotary: [{ theta: 1e5, width: 64, scaling: null }],
    ...PLAIN,
    pattern: [...PLAIN.pattern],
  },
  exits: [10, 15, 20, 25, 30],
  maxLength: 256,
  slots: 4,
  kvTokens: 4096,
  kernels: ['fp32'],
  device: 'cpu',
  devices: [],
  cost: { units: [] },
  loadMs: 1,
  calibrateMs: 1,
};

/** Artificial but checkable: the n-th candidate of a token is id + n, each one nat less likely. */
export function fakeLogprobs(id: number, count: number): TokenLogprobs {
  return { logprob: -0.5, top: Array.from({ length: count }, (_, n) => [id + n, -0.5 - n] as const) };
}

/** A plan of a guaranteed budget. */
export function plannedEvent(id: string, exit: number, overrides: Partial<PlannedEvent> = {}): PlannedEvent {
  return {
    ...{ id, exit, predictedTtftMs: 1.5, predictedTpotMs: 0.5, predictedMs: 10, predictedP10Ms: 8, predictedP90Ms: 14 },
    ...{
      serviceClass: 'guaranteed',
      reason: 'deepest',
      landing: 'possible',
      expectedTokens: 6,
      expectedTokensP90: 12,
      probability: 0.998,
    },
    ...overrides,
  };
}

export class FakeEngine extends EventEmitter<EngineEvents> implements Engine {
  ready: ReadyMessage | null = READY;
  readonly requests: SequenceRequest[] = [];
  readonly cancelled: string[] = [];
  /** Nets that sleep. */
  readonly asleep = new Set<string>();
  readonly #live = new Map<string, Live>();
  readonly #open = new OpenSequences(Infinity, () => undefined);
  unreadMs = 0;
  /** Most sequences of a request that the engine takes. */
  room = Infinity;

  constructor(public script: (request: SequenceRequest) => Script) {
    super();
  }

  get live(): number {
    return this.#live.size;
  }

  start(): Promise<ReadyMessage> {
    this.emit('ready', READY);
    return Promise.resolve(READY);
  }

  hasRoom(_tenant: string, sequences: number): boolean {
    return sequences <= this.room;
  }

  generate(asked: EngineRequest): SequenceEvents {
    const requests = sequencesOf(asked);
    const answer = new SequenceEvents(requests.length, () => {
      for (const { id } of requests) this.cancel(id, 'cancelled');
    });
    for (const [index, request] of requests.entries()) {
      this.requests.push(request);
      const lose = (): void => {
        answer.add({ index, type: 'lost', message: 'killed' }, true);
        answer.wake();
      };
      if (this.ready === null) lose();
      else this.#start(request, lose, answer, index);
    }
    return answer;
  }

  #start(request: SequenceRequest, lose: () => void, answer: SequenceEvents, index: number): void {
    const script = this.script(request);
    const timer = setTimeout(() => {
      if (request.isNet === true) this.#arm(request, script);
      else this.#begin(request, script);
    }, script.delay ?? 0);
    // A script ends its answers itself.
    this.#open.add({ ...request, depth: { ...request.depth, budget: null } }, answer, index, 0);
    this.#live.set(request.id, { request, lose, script, timer, sent: 0 });
  }

  cancel(id: string, reason: CancelReason): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.cancelled.push(id);
    clearTimeout(live.timer);
    live.timer = setTimeout(() => {
      this.#end(id, reason);
    }, 1);
  }

  /** The engine refuses a request that it has planned, because its budget has no time left. */
  refuse(id: string): void {
    clearTimeout(this.#live.get(id)?.timer);
    this.#live.delete(id);
    this.#step({ rejected: [{ id, reason: 'budget_infeasible', leastFeasibleMs: null }] });
  }

  wake(ids: readonly string[]): void {
    for (const id of ids) {
      const live = this.#live.get(id);
      if (live === undefined || !this.asleep.delete(id)) continue;
      clearTimeout(live.timer);
      this.#begin(live.request, live.script);
    }
  }

  cancelAll(reason: CancelReason): void {
    for (const id of this.#live.keys()) this.cancel(id, reason);
  }

  /** The process dies, so every live sequence is lost. */
  die(): void {
    this.ready = null;
    for (const { lose, timer } of this.#live.values()) {
      clearTimeout(timer);
      lose();
    }
    this.#live.clear();
    this.#tell(() => this.emit('down', 'killed'));
  }

  close(): Promise<void> {
    this.die();
    return Promise.resolve();
  }

  /** A net sleeps until its latest start. */
  #arm(request: SequenceRequest, script: Script): void {
    const { sentenceMs = 0 } = script;
    const { id, arrivedAt, depth } = request;
    const { totalMs = 0, ttftMs = null, sentenceMs: firstMs = Infinity } = depth.budget ?? {};
    const latestStart = arrivedAt + Math.min(totalMs ?? Infinity, ttftMs ?? Infinity, firstMs) - sentenceMs;
    const leftMs = latestStart - monotonicMs();
    const live = this.#live.get(id);
    if (leftMs < 0 || script.reject !== undefined || live === undefined) {
      const reject = { reason: 'budget_infeasible', leastFeasibleMs: null } as const;
      this.#begin(request, { reject, ...script });
      return;
    }
    this.asleep.add(id);
    live.timer = setTimeout(() => {
      this.wake([id]);
    }, leftMs);
    this.#step({ armed: [{ id, latestStart }] });
  }

  #begin(request: SequenceRequest, script: Script): void {
    if (script.reject !== undefined) {
      this.#live.delete(request.id);
      this.#step({ rejected: [{ id: request.id, ...script.reject }] });
      return;
    }
    const { budget, maxExit } = request.depth;
    const planned = plannedEvent(request.id, maxExit, {
      serviceClass: budget === null ? 'none' : 'guaranteed',
      expectedTokens: Math.min(6, request.maxTokens),
      expectedTokensP90: Math.min(12, request.maxTokens),
      probability: budget?.totalMs == null ? null : 0.998,
      landing:
        budget?.totalMs == null || budget.onMiss === 'continue' || budget.onMiss === 'truncate' ? 'off' : 'possible',
      ...script.plan,
      ...(request.isDryRun && { isDryRun: true }),
    });
    this.#step({ planned: [planned] });
    if (request.isDryRun === true) {
      this.#end(request.id, 'length', script);
      return;
    }
    if (request.promptLogprobs !== null) {
      const count = request.promptLogprobs;
      const logprobs = request.prompt.map((id, i) => (i === 0 ? null : fakeLogprobs(id, count)));
      for (const half of [logprobs.slice(0, 2), logprobs.slice(2)]) {
        const event: PromptEvent = { id: request.id, logprobs: half };
        this.#step({ prompts: [event] });
      }
    }
    const first = (): void => {
      this.#next(request, script, 0);
    };
    const live = this.#live.get(request.id);
    if (script.prefill === undefined || live === undefined) first();
    else live.timer = setTimeout(first, script.prefill);
  }

  #next(request: SequenceRequest, script: Script, index: number): void {
    const live = this.#live.get(request.id);
    if (live === undefined) return;
    if (script.loseAfter === index) {
      this.#live.delete(request.id);
      live.lose();
      return;
    }
    if (index >= request.maxTokens) {
      this.#end(request.id, 'length', script);
      return;
    }
    const token = script.tokens[index];
    if (token === undefined) {
      this.#end(request.id, script.end ?? 'stop', script);
      return;
    }
    const event: TokenEvent = {
      id: request.id,
      token,
      exit: script.exits?.[index] ?? request.depth.maxExit,
      logprobs: request.logprobs === null ? null : fakeLogprobs(token, request.logprobs),
    };
    live.sent++;
    const at = monotonicMs();
    this.#step({ tokens: [event], at });
    if (!this.#live.has(request.id) || this.cancelled.includes(request.id)) return;
    live.timer = setTimeout(() => {
      this.#next(request, script, index + 1);
    }, script.pace ?? 0);
  }

  #end(id: string, reason: EndReason, script?: Script): void {
    const live = this.#live.get(id);
    if (live === undefined) return;
    this.#live.delete(id);
    this.asleep.delete(id);
    const now = monotonicMs();
    const ended: EndedEvent = {
      id,
      reason,
      error: reason === 'error' ? 'secret detail' : null,
      promptTokens: live.request.prompt.length,
      cachedTokens: Math.min(2, live.request.prompt.length),
      startedAt: live.request.arrivedAt + 1,
      firstTokenAt: live.sent > 0 ? live.request.arrivedAt + 2 : null,
      endedAt: now,
      preemptions: 0,
      ...(live.request.isDryRun && { isDryRun: true }),
      ...script?.ended,
    };
    this.#step({ ended: [ended] });
  }

  #step(events: Partial<StepMessage>): void {
    const step: StepMessage = {
      type: 'step',
      at: monotonicMs(),
      planned: [],
      rejected: [],
      prompts: [],
      tokens: [],
      ended: [],
      load: { running: this.#live.size, waiting: 0, kvUsed: 0.25, kvCached: 0.125, waitMs: 0 },
      work: {
        ms: 1,
        cycleMs: 1,
        partMs: { planning: 0, memory: 0, prefill: 0, decode: 1, head: 0, sampling: 0, messages: 0 },
        predictedMs: 1,
        prefillTokens: 0,
        catchUpTokens: 0,
        exitMs: [0, 0, 0, 0, 1],
        slowdown: 1,
      },
      ...events,
    };
    this.#open.hear(step);
    this.#tell(() => this.emit('step', step));
  }

  /** As the client does: once the answers are written. */
  #tell(emit: () => void): void {
    queueMicrotask(() => {
      process.nextTick(emit);
    });
  }
}
