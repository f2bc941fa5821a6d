/** Scores and tables of bench:everyday, and its values for the manifest. */
import type { KeptPoint } from '../../src/engine/model/manifest.js';
import { meanOf } from '../loadgen/summary.js';
import { quantile } from '../../src/util/stats.js';
import { tableOf } from '../table.js';
import { type Course, courseOf, keptCurve, worthWithin } from './kept.js';
import { type EverydayRequest, type Half, isChecked } from './requests.js';
import { score } from './score.js';

/** An exit layer with a constant end pressure: a bias on the logits of the end tokens. */
interface Setting {
  readonly exit: number;
  readonly pressure: number;
}

export interface Answer extends Setting {
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

/** Scores of the answers to checked requests. */
export function scoresOf(answers: readonly Answer[]): number[] {
  return answers.flatMap(({ request, text }) => (isChecked(request) ? [score(request, text)] : []));
}

const ofHalf = (half: Half, answers: readonly Answer[]): Answer[] =>
  answers.filter(({ request }) => request.half === half);

function settingsOf(answers: readonly Answer[]): (Setting & { readonly own: Answer[] })[] {
  const settings = new Map(answers.map(({ exit, pressure }) => [`${exit}+${pressure}`, { exit, pressure }]));
  return [...settings.values()]
    .sort((a, b) => b.exit - a.exit || a.pressure - b.pressure)
    .map((setting) => ({
      ...setting,
      own: answers.filter(({ exit, pressure }) => exit === setting.exit && pressure === setting.pressure),
    }));
}

/** One row for each exit and pressure: length, loops, own ends, and mean score of each half in points of the whole. */
export function settingTable(answers: readonly Answer[], encode: Encode): string[] {
  const head = ['exit+pressure', 'answers', 'tokens, mean (90%)', 'loops', 'end by themselves', ...HALVES];
  const rows = settingsOf(answers).map(({ exit, pressure, own }) => {
    const tokens = own.map((answer) => answer.tokens);
    return [
      pressure === 0 ? String(exit) : `${exit}+${pressure}`,
      String(own.length),
      `${meanOf(tokens).toFixed(0)} (${quantile(tokens, 0.9).toFixed(0)})`,
      String(own.filter(({ text }) => loops(encode(text))).length),
      `${(100 * meanOf(own.map(({ isComplete }) => Number(isComplete)))).toFixed(0)}%`,
      ...HALVES.map((half) => meanOf(scoresOf(ofHalf(half, own))).toFixed(3)),
    ];
  });
  return tableOf([head, ...rows]);
}

/** Mean score by kind of request, both halves, for each exit without pressure. */
export function kindTable(answers: readonly Answer[]): string[] {
  const kinds = [...new Set(answers.flatMap(({ request }) => (isChecked(request) ? [request.kind] : [])))];
  const rows = settingsOf(answers.filter(({ pressure }) => pressure === 0)).map(({ exit, own }) => [
    String(exit),
    ...kinds.map((kind) => meanOf(scoresOf(own.filter(({ request }) => request.kind === kind))).toFixed(2)),
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

export interface Measured {
  /** Score of each exit layer as a share of full depth's, 0..1. */
  readonly right: ReadonlyMap<number, number>;
  readonly kept: readonly KeptPoint[];
}

/** Values for the manifest from the tuning half, without pressure. @param deepest exit layer of full depth */
export function measuredOf(answers: readonly Answer[], deepest: number, encode: Encode): Measured {
  const plain = ofHalf('tuning', answers).filter(({ pressure }) => pressure === 0);
  const at = (layer: number): Answer[] => plain.filter(({ exit }) => exit === layer);
  const whole = meanOf(scoresOf(at(deepest)));
  const layers = [...new Set(plain.map(({ exit }) => exit))];
  const share = (layer: number): number => Math.min(1, meanOf(scoresOf(at(layer))) / whole);
  return {
    right: new Map(layers.map((layer) => [layer, Math.round(1000 * share(layer)) / 1000])),
    kept: keptCurve(coursesOf(at(deepest), encode)),
  };
}

interface Stored {
  readonly exits: readonly { readonly layer: number; readonly quality: object }[];
  readonly files?: unknown;
}

/** Adds the values to a manifest's text. @param text JSON with an indent of two spaces */
export function withMeasured(text: string, { right, kept }: Measured): string {
  const { files, ...manifest } = JSON.parse(text) as Stored;
  const exits = manifest.exits.map((exit) => ({
    ...exit,
    quality: { ...exit.quality, right: right.get(exit.layer) },
  }));
  return `${JSON.stringify({ ...manifest, exits, kept, files }, null, 2)}\n`;
}
