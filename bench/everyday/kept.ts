/** The worth of answers that end early: the curve `kept` of the manifest. Pure functions. */
import type { KeptPoint } from '../../src/engine/model/manifest.js';
import { sentenceEnds } from './sentences.js';

/** An answer as its places to end, in order: tokens until each, and the score of the text until there. */
export interface Course {
  readonly ends: readonly (readonly [tokens: number, score: number])[];
}

/** Worths of the curve's points. */
const LEVELS = [0.05, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1] as const;

/** @param scoreOf score of a text, 0..1. @param tokensOf number of a text's tokens */
export function courseOf(text: string, scoreOf: (text: string) => number, tokensOf: (text: string) => number): Course {
  const ends = sentenceEnds(text).map((end) => text.slice(0, end));
  return { ends: ends.map((part) => [tokensOf(part), scoreOf(part)] as const) };
}

/**
 * Share of the whole answers' scores that answers still have if each ends at its last place within so many tokens, 0..1.
 * A shorter answer counts at most as much as the whole one. NaN if no whole answer has a score.
 */
export function worthWithin(tokens: number, courses: readonly Course[]): number {
  const whole = (course: Course): number => course.ends.at(-1)?.[1] ?? 0;
  const kept = (course: Course): number =>
    Math.min(whole(course), course.ends.findLast(([until]) => until <= tokens)?.[1] ?? 0);
  const sum = (of: (course: Course) => number): number => courses.reduce((all, each) => all + of(each), 0);
  return sum(kept) / sum(whole);
}

/**
 * The curve over tokens: from [0, 0], the fewest tokens of each level of worth, up to 1.
 * @throws Error if no answer has a score
 */
export function keptCurve(courses: readonly Course[]): KeptPoint[] {
  const places = [...new Set(courses.flatMap(({ ends }) => ends.map(([tokens]) => tokens)))].sort((a, b) => a - b);
  const steps = places.map((tokens) => [tokens, worthWithin(tokens, courses)] as const);
  if (!(steps.length > 0 && steps.every(([, worth]) => Number.isFinite(worth))))
    throw new Error('kept: no whole answer has a score');
  const curve: KeptPoint[] = [[0, 0]];
  for (const level of LEVELS) {
    const [tokens, worth] = steps.find((step) => step[1] >= level - 1e-9) ?? [];
    const [lastTokens = 0, lastWorth = 0] = curve.at(-1) ?? [];
    if (tokens === undefined || worth === undefined || tokens <= lastTokens || worth <= lastWorth) continue;
    curve.push([tokens, Math.round(1000 * worth) / 1000]);
  }
  return curve;
}
