/** Scores and tables of bench:everyday, and its values for the manifest. */
import type { KeptPoint, LengthQuantile } from '../../src/engine/model/manifest.js';
import { quantile } from '../loadgen/stats.js';
import { meanOf } from '../loadgen/summary.js';
import { tableOf } from '../table.js';
import { type Course, courseOf, keptCurve, worthWithin } from './kept.js';
import { type EverydayRequest, type Half, isChecked } from './requests.js';
import { score } from './score.js';

export interface Answer {
  readonly exit: number;
  readonly request: EverydayRequest;
  readonly text: string;
  readonly tokens: number;
  /** Whether the answer ended by itself, below the cap. */
  readonly isComplete: boolean;
}

type Encode = (text: string) => readonly number[];

const HALVES = ['tuning', 'held-out'] as const satisfies readonly Half[];

/** Whether a text loops: some sequence of 4 tokens occurs more than 4 times. */
export function loops(tokens: readonly number[]): boolean {
  const counts = new Map<string, number>();
  for (let i = 0; i + 4 <= tokens.length; i++) {
    const key = tokens.slice(i, i + 4).join(' ');
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return Math.max(0, ...counts.values()) > 4;
}

/** Mean score of the answers to checked requests; NaN without one. */
function scoreOf(answers: readonly Answer[]): number {
  return meanOf(answers.flatMap(({ request, text }) => (isChecked(request) ? [score(request, text)] : [])));
}

const ofHalf = (half: Half, answers: readonly Answer[]): Answer[] =>
  answers.filter(({ request }) => request.half === half);

/** The answers of each exit, the deepest first. */
function byExit(answers: readonly Answer[]): [number, Answer[]][] {
  const exits = [...new Set(answers.map(({ exit }) => exit))].sort((a, b) => b - a);
  return exits.map((layer) => [layer, answers.filter(({ exit }) => exit === layer)]);
}

/** One row for each exit: length, loops, own ends, and mean score of each half in points of the whole. */
export function exitTable(answers: readonly Answer[], encode: Encode): string[] {
  const head = ['exit', 'answers', 'tokens, mean (90%)', 'loops', 'end by themselves', ...HALVES];
  const rows = byExit(answers).map(([exit, own]) => {
    const tokens = own.map((answer) => answer.tokens);
    return [
      String(exit),
      String(own.length),
      `${meanOf(tokens).toFixed(0)} (${quantile(tokens, 0.9).toFixed(0)})`,
      String(own.filter(({ text }) => loops(encode(text))).length),
      `${(100 * meanOf(own.map(({ isComplete }) => Number(isComplete)))).toFixed(0)}%`,
      ...HALVES.map((half) => scoreOf(ofHalf(half, own)).toFixed(3)),
    ];
  });
  return tableOf([head, ...rows]);
}

/** Mean score by kind of request, both halves, for each exit. */
export function kindTable(answers: readonly Answer[]): string[] {
  const kinds = [...new Set(answers.flatMap(({ request }) => (isChecked(request) ? [request.kind] : [])))];
  const rows = byExit(answers).map(([exit, own]) => [
    String(exit),
    ...kinds.map((kind) => scoreOf(own.filter(({ request }) => request.kind === kind)).toFixed(2)),
  ]);
  return tableOf([['exit', ...kinds], ...rows]);
}

function coursesOf(answers: readonly Answer[], encode: Encode): Course[] {
  const tokensOf = (part: string): number => encode(part).length;
  return answers.flatMap(({ request, text }) =>
    isChecked(request) ? [courseOf(text, (part) => score(request, part), tokensOf)] : [],
  );
}

/** The curve of the tuning half, and the held-out half's worth at its points. @param answers of full depth */
export function keptTable(answers: readonly Answer[], encode: Encode): string[] {
  const held = coursesOf(ofHalf('held-out', answers), encode);
  const curve = keptCurve(coursesOf(ofHalf('tuning', answers), encode));
  return tableOf([
    ['tokens', ...curve.map(([tokens]) => String(tokens))],
    ['tuning', ...curve.map(([, worth]) => worth.toFixed(3))],
    ['held-out', ...curve.map(([tokens]) => worthWithin(tokens, held).toFixed(3))],
  ]);
}

const SHARES = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98] as const;

/**
 * The router's prior of lengths: shares of the answers, and the tokens within which they end. Answers that the model ends
 * are shorter than the cap, so a share is known unless it reaches into the cut answers. Of several shares with the same
 * tokens the largest is kept.
 */
export function quantiles(answers: readonly Pick<Answer, 'tokens' | 'isComplete'>[]): LengthQuantile[] {
  const ended = answers
    .filter(({ isComplete }) => isComplete)
    .map(({ tokens }) => tokens)
    .sort((a, b) => a - b);
  const pairs = SHARES.flatMap((share): LengthQuantile[] => {
    const tokens = ended[Math.ceil(share * answers.length) - 1];
    return tokens === undefined ? [] : [[share, tokens]];
  });
  return pairs.filter(([, tokens], i) => tokens !== pairs[i + 1]?.[1]);
}

export interface Measured {
  /** By layer: the prior of lengths, and the score as a share of full depth's, 0..1. */
  readonly exits: ReadonlyMap<number, { readonly lengths: readonly LengthQuantile[]; readonly accuracy: number }>;
  readonly kept: readonly KeptPoint[];
}

/** Values for the manifest from the tuning half. @param deepest exit layer of full depth */
export function measuredOf(answers: readonly Answer[], deepest: number, encode: Encode): Measured {
  const tuning = ofHalf('tuning', answers);
  const full = tuning.filter(({ exit }) => exit === deepest);
  const share = (own: readonly Answer[]): number => Math.min(1, scoreOf(own) / scoreOf(full));
  const exits = byExit(tuning).map(([layer, own]) => {
    return [layer, { lengths: quantiles(own), accuracy: Math.round(1000 * share(own)) / 1000 }] as const;
  });
  return { exits: new Map(exits), kept: keptCurve(coursesOf(full, encode)) };
}

interface Stored {
  readonly exits: readonly { readonly layer: number; readonly quality: object }[];
  readonly files?: unknown;
}

/** Adds the values to a manifest's text. @param text JSON with an indent of two spaces */
export function withMeasured(text: string, measured: Measured): string {
  const { files, ...manifest } = JSON.parse(text) as Stored;
  const exits = manifest.exits.map((exit) => {
    const own = measured.exits.get(exit.layer);
    if (own === undefined) return exit;
    return { ...exit, quality: { ...exit.quality, accuracy: own.accuracy }, lengths: { chat: own.lengths } };
  });
  return `${JSON.stringify({ ...manifest, exits, kept: measured.kept, files }, null, 2)}\n`;
}
