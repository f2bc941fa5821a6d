/**
 * Hints (the sentences of X-Budget-Hint): scores and lengths of the answers behind each of them, beside those of the
 * same requests without one. Pure functions.
 */
import { meanOf } from '../loadgen/summary.js';
import type { Hint } from '../../src/engine/model/manifest.js';
import { isHintable } from '../../src/gateway/api/params/hint.js';
import { median, quantile } from '../../src/util/stats.js';
import { tableOf } from '../table.js';
import { type EverydayRequest, type Half, isChecked } from './requests.js';
import { hasForm, score } from './score.js';

export type HintText = Pick<Hint, 'text' | 'words'>;

export interface HintedAnswer {
  /** Null for an answer without a hint. */
  readonly hint: HintText | null;
  readonly request: EverydayRequest;
  readonly text: string;
  readonly tokens: number;
}

/**
 * Reads hints such as `15: Answer in one short sentence.|40: Answer in about 40 words.`.
 * @throws Error that names the option, its rule and the value
 */
export function hintTexts(text: string): HintText[] {
  return text.split('|').map((each) => {
    const [, words = '', sentence = ''] = /^\s*(\d+):\s*(\S.*?)\s*$/.exec(each) ?? [];
    if (!(Number(words) > 0)) throw new Error(`--hints must be "WORDS: TEXT", separated by |, got "${text}"`);
    return { text: ` ${sentence}`, words: Number(words) };
  });
}

/** The requests that a server gives hints to. */
export function hintable(requests: readonly EverydayRequest[]): EverydayRequest[] {
  return requests.filter(({ request }) => isHintable(request));
}

/** Share of the requests with a form whose answers have it; NaN without one. */
function formsKept(answers: readonly HintedAnswer[]): number {
  return meanOf(
    answers.flatMap(({ request: { form, least = 1 }, text }) =>
      form === undefined ? [] : [Number(hasForm(form, text.trim(), least))],
    ),
  );
}

function scoreOf(answers: readonly HintedAnswer[]): number {
  return meanOf(answers.flatMap(({ request, text }) => (isChecked(request) ? [score(request, text)] : [])));
}

const isOf = (hint: HintText | null) => (answer: HintedAnswer) => answer.hint?.text === hint?.text;
const hintsIn = (answers: readonly HintedAnswer[]): (HintText | null)[] => [
  ...new Map(answers.map(({ hint }) => [hint?.text, hint])).values(),
];

/** One row for each hint: tokens, score of each half, score by kind, and the share of kept forms. */
export function hintTable(answers: readonly HintedAnswer[]): string[] {
  const kinds = [...new Set(answers.flatMap(({ request }) => (isChecked(request) ? [request.kind] : [])))];
  const shown = (value: number, digits = 2): string => (Number.isNaN(value) ? '-' : value.toFixed(digits));
  const rows = hintsIn(answers).map((hint) => {
    const own = answers.filter(isOf(hint));
    const tokens = own.map((answer) => answer.tokens);
    const half = (name: Half) => scoreOf(own.filter(({ request }) => request.half === name));
    return [
      ...[hint?.text.trim() ?? 'none', String(own.length)],
      `${meanOf(tokens).toFixed(0)} (${median(tokens).toFixed(0)}, ${quantile(tokens, 0.9).toFixed(0)})`,
      ...[half('tuning'), half('held-out')].map((value) => shown(value, 3)),
      ...kinds.map((kind) => shown(scoreOf(own.filter(({ request }) => request.kind === kind)))),
      shown(formsKept(own)),
    ];
  });
  const head = ['hint', 'answers', 'tokens, mean (50%, 90%)', 'tuning', 'held-out', ...kinds, 'form kept'];
  return tableOf([head, ...rows]);
}

/** The hints as the manifest has them, from the tuning half and the requests that get hints, in order of length. */
export function measuredHints(answers: readonly HintedAnswer[]): Hint[] {
  const own = answers.filter(({ request: { half, request } }) => half === 'tuning' && isHintable(request));
  const whole = scoreOf(own.filter(isOf(null)));
  return hintsIn(own)
    .flatMap((hint) => {
      if (hint === null) return [];
      const its = own.filter(isOf(hint));
      const tokens = Math.max(1, Math.round(median(its.map((answer) => answer.tokens))));
      return [{ ...hint, tokens, right: Math.round((1000 * scoreOf(its)) / whole) / 1000 }];
    })
    .sort((a, b) => a.tokens - b.tokens);
}

/** Adds the hints to a manifest's text. @param text JSON with an indent of two spaces */
export function withHints(text: string, hints: readonly Hint[]): string {
  const { files, ...manifest } = JSON.parse(text) as { readonly files?: unknown };
  return `${JSON.stringify({ ...manifest, hints, files }, null, 2)}\n`;
}
