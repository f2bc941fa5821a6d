/** Workloads of bench:planner: lengths, arrivals and three classes of budgets, from a seed. */
import Type from 'typebox';
import { Value } from 'typebox/value';
import { type CostModel, predictMs } from '../../src/cost/model.js';
import type { SimulatedRequest } from '../../src/simulate/request.js';
import type { TraceEntry } from '../../src/load/trace.js';
import { type BudgetClass, budgetOf, classesFor } from '../../src/simulate/workload.js';
import { seeded } from '../../src/util/random.js';
import { type Arrivals, arrivalTimes } from '../../src/load/arrivals.js';

/** Seeds to tune parameters on, and separate seeds to report results on. */
export const SEEDS = { tuning: [1, 2, 3, 4], 'held-out': [101, 102, 103, 104] } as const;
export type SeedSet = keyof typeof SEEDS;

/**
 * `noisy`: steps vary, with slow spells. `shared`: gateway and clients use the same cores, which a calibration of an
 * idle machine does not see.
 */
export const MACHINES = ['steady', 'noisy', 'shared'] as const;
export type MachineKind = (typeof MACHINES)[number];

/**
 * - `chat`: measured answers that full depth ends within 512 tokens, with prompts of a trace.
 * - `short`: the same within 120 tokens.
 * - `prompts`: 50 to 512 positions and 4 to 64 tokens.
 * - `trace`: lengths of a trace, equal at every exit.
 */
export const WORKLOADS = ['chat', 'short', 'prompts', 'trace'] as const;
export type Workload = (typeof WORKLOADS)[number];

/** `unstated`: no max_tokens. `loose`: a bound of two to eight times the full-depth length. */
export const LIMITS = ['unstated', 'loose'] as const;
export type Limits = (typeof LIMITS)[number];

/** One kind of traffic on one kind of machine. */
export interface Cell {
  readonly workload: Workload;
  /** `closed`: clients that never pause, two per slot for each unit of load. */
  readonly arrivals: Arrivals | 'closed';
  /** 1 is the throughput of full depth with clients that never pause. */
  readonly load: number;
  readonly machine: MachineKind;
}

/** Answer lengths of one question in tokens by exit, shallowest first. */
export type Answer = readonly number[];

export interface Material {
  readonly trace: readonly TraceEntry[];
  readonly answers: readonly Answer[];
  readonly exits: number;
  readonly requests: number;
  /** Factor on the trace's prompts and answers. */
  readonly scale: number;
  readonly limits: Limits;
  /** Share of requests without a budget. */
  readonly noBudget: number;
}

const Lengths = Type.Record(Type.String(), Type.Object({ tokens: Type.Integer(), isCut: Type.Boolean() }));
const LengthsFile = Type.Object({
  cap: Type.Integer(),
  answers: Type.Array(Type.Object({ greedy: Lengths, sampled: Lengths })),
});

/** Answers of bench:lengths that full depth ends. A cut answer of another exit counts twice the cap. @throws Error */
export function parseAnswers(text: string, layers: readonly number[]): Answer[] {
  const file: unknown = JSON.parse(text);
  if (!Value.Check(LengthsFile, file)) throw new Error('--lengths must be a file of bench:lengths');
  return file.answers.flatMap(({ greedy, sampled }) =>
    [greedy, sampled].flatMap((byExit) => {
      const answer = layers.map((layer) => byExit[String(layer)]);
      if (answer.some((each) => each === undefined) || answer.at(-1)?.isCut === true) return [];
      return [answer.map((each) => (each?.isCut === true ? 2 * file.cap : Math.max(1, each?.tokens ?? 1)))];
    }),
  );
}

/** Positions of a sequence: an answer without max_tokens may go on to the end. */
const CONTEXT = 8192;
const LONGEST_TOKENS = 1024;
const SHORT_TOKENS = 120;

/** Budgets of 2, 4 and 10 times the cost model's time for full depth alone. */
export function budgetClasses(model: CostModel): BudgetClass[] {
  const deepest = model.shape.exits.length - 1;
  const rows = new Array<number>(deepest + 1).fill(0).with(-1, 1);
  const chunk = { exit: deepest, positions: 128, context: 0, chunk: 128 };
  return classesFor(
    predictMs(model, { decode: null, prefill: [chunk] }) / chunk.positions,
    predictMs(model, { decode: { rows, context: 256 }, prefill: [] }),
  );
}

/** Requests that all arrive immediately, to measure capacity. */
export function closedLoad(
  material: Material,
  workload: Workload,
  classes: readonly BudgetClass[],
): SimulatedRequest[] {
  return drawn(material, workload, classes, 0).map((request) => ({ ...request, arrivedAt: 0 }));
}

/** The requests of a seed, from a separate part of the trace. */
export function openLoad(
  material: Material,
  cell: Pick<Cell, 'workload' | 'arrivals'>,
  classes: readonly BudgetClass[],
  perSecond: number,
  seed: number,
): SimulatedRequest[] {
  const requests = drawn(material, cell.workload, classes, seed);
  if (cell.arrivals === 'closed') return requests;
  const times = arrivalTimes(requests.length, perSecond, cell.arrivals, seeded(seed * 7 + 2));
  return requests.map((request, i) => ({ ...request, arrivedAt: times[i] ?? 0 }));
}

function drawn(
  material: Material,
  workload: Workload,
  classes: readonly BudgetClass[],
  seed: number,
): SimulatedRequest[] {
  const { trace, requests, scale, limits, noBudget } = material;
  const random = seeded(seed * 7 + 1);
  const from = (seed * requests) % Math.max(1, trace.length - requests);
  const answers = material.answers.filter((answer) => workload !== 'short' || (answer.at(-1) ?? 0) <= SHORT_TOKENS);
  const measured = Array.from({ length: material.exits }, (_, exit) =>
    answers.map((answer) => answer[exit] ?? 1).sort((a, b) => a - b),
  );
  return trace.slice(from, from + requests).map((entry, i) => {
    const lengths = lengthsOf(entry, workload, answers, material, random);
    const tokens = lengths.at(-1) ?? 1;
    const wanted =
      workload === 'prompts' ? 50 + Math.floor(random() * 463) : Math.max(1, Math.round(entry.promptTokens * scale));
    const promptLength = Math.min(LONGEST_TOKENS - 24, wanted);
    const most = limits === 'loose' ? tokens * 2 ** (1 + Math.floor(random() * 3)) : CONTEXT - promptLength;
    const budgetClass = classes[Math.floor(random() * classes.length)];
    const hasBudget = random() >= noBudget && budgetClass !== undefined;
    return {
      id: `r${i}`,
      arrivedAt: 0,
      promptLength,
      lengths,
      ...(workload === 'trace' || workload === 'prompts' ? {} : { change: { answers: measured, luck: random() } }),
      maxTokens: Math.max(1, most),
      isExactLength: false,
      lengthGroup: { kind: 'chat', key: null },
      budget: hasBudget ? budgetOf(budgetClass, promptLength, tokens) : null,
      minExit: null,
      maxExit: null,
      budgetClass: hasBudget ? budgetClass.name : 'none',
    };
  });
}

function lengthsOf(
  entry: TraceEntry,
  workload: Workload,
  answers: readonly Answer[],
  { exits, scale }: Material,
  random: () => number,
): readonly number[] {
  if (workload === 'trace') return new Array<number>(exits).fill(Math.max(1, Math.round(entry.outputTokens * scale)));
  const answer = answers[Math.floor(random() * answers.length)];
  if (answer === undefined) throw new Error(`no measured answers for the workload ${workload}`);
  if (workload !== 'prompts') return answer;
  // Short answers: the ratio between a shallow exit and full depth is that of a measured question.
  const tokens = 4 + Math.floor(random() * 61);
  return answer.map((length) => Math.max(1, Math.round((tokens * length) / (answer.at(-1) ?? 1))));
}
