/** The accuracy of every exit by the length of the prompt, on passages of the tuning half. */
import { closedLoop } from '../loadgen/run.js';
import type { KeptPoint, Manifest, Quality } from '../../src/engine/model/manifest.js';
import { NO_BUDGET } from '../loadgen/budgets.js';
import { meanOf } from '../loadgen/summary.js';
import { checkedQuestions, jobsOf, type Question, sender } from './job.js';
import { passages } from './passages.js';
import { sideOf, type SidedModel } from './side.js';

/** Passages of a point. Full depth of the embedded model answers two fifths of them, so a share has an error of .1. */
const PASSAGES = 60;
const POINTS = 2;

export type PromptRight = Required<Pick<Quality, 'right' | 'rightByPrompt'>>;

export interface PromptRights {
  /** By layer. The first point is the accuracy on everyday requests of the manifest, at their mean length. */
  readonly exits: ReadonlyMap<number, readonly KeptPoint[]>;
  /** Behind the prompt exit, everyday requests first; null for a model with one depth of prompts. */
  readonly prompt: PromptRight | null;
}

/** A passage with the scores of its answers. */
export interface Scored {
  /** Tokens of the prompt. */
  readonly tokens: number;
  readonly full: number;
  /** At the exit that is measured. */
  readonly early: number;
}

/**
 * Asks the passages at full depth, at every exit with a measured accuracy, and behind the prompt exit. No request has a
 * budget.
 * @param url of an idle server
 */
export async function promptRights(
  url: string,
  model: SidedModel,
  { slots, maxTokens }: { readonly slots: number; readonly maxTokens?: number | undefined },
): Promise<PromptRights> {
  const { promptExit, layers, name, accuracy } = model;
  const endless = [{ name: 'none', budget: NO_BUDGET }];
  const scores = async (side: string, questions: readonly Question[]): Promise<number[]> => {
    const jobs = jobsOf(questions, endless, questions.length, 0, { maxTokens: maxTokens ?? null });
    const sent = await closedLoop(sender(url, name, sideOf(side, model)), jobs, slots);
    const found = new Map(sent.map(({ job, answer }) => [job.question, answer.right ?? 0]));
    return questions.map(({ text }) => found.get(text) ?? 0);
  };
  const full = `fixed ${layers.at(-1)}`;
  const asked = async (questions: readonly Question[]): Promise<Asked> => {
    const tokens: number[] = [];
    for (const { text } of questions) tokens.push(await tokensOf(url, text));
    return { questions, tokens, full: await scores(full, questions) };
  };
  const short = await asked(checkedQuestions('tuning'));
  const long = await asked(passages('tuning', PASSAGES * POINTS));
  const measured = async (side: string, set: Asked, points: number): Promise<PromptRight> => {
    const early = await scores(side, set.questions);
    const scored = set.questions.map((_, i) => {
      return { tokens: set.tokens[i] ?? 0, full: set.full[i] ?? 0, early: early[i] ?? 0 };
    });
    return measuredOf(scored, points);
  };
  const exits = new Map<number, readonly KeptPoint[]>();
  const meanTokens = Math.round(meanOf(short.tokens));
  for (const layer of layers.slice(0, -1)) {
    const right = accuracy.get(String(layer));
    if (right === undefined) continue;
    exits.set(layer, [[meanTokens, right], ...(await measured(`fixed ${layer}`, long, POINTS)).rightByPrompt]);
  }
  if (promptExit === null) return { exits, prompt: null };
  const behind = `${full} behind ${promptExit}`;
  const { rightByPrompt } = await measured(behind, short, 1);
  const far = await measured(behind, long, POINTS);
  return { exits, prompt: { right: far.right, rightByPrompt: [...rightByPrompt, ...far.rightByPrompt] } };
}

/** Questions with the lengths of their prompts, and full depth's scores. */
interface Asked {
  readonly questions: readonly Question[];
  readonly tokens: readonly number[];
  readonly full: readonly number[];
}

async function tokensOf(url: string, prompt: string): Promise<number> {
  const body = JSON.stringify({ prompt });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${url}/tokenize`, { method: 'POST', headers, body });
  return ((await response.json()) as { readonly count: number }).count;
}

/**
 * Shares of full depth's right answers, at most 1: of all passages, and of so many groups by their length.
 * @throws Error if full depth has no right answer in a group
 */
export function measuredOf(scored: readonly Scored[], points: number): PromptRight {
  const sorted = [...scored].sort((a, b) => a.tokens - b.tokens);
  const groups = Array.from({ length: points }, (_, i) => {
    return sorted.slice((i * sorted.length) / points, ((i + 1) * sorted.length) / points);
  });
  return {
    right: shareOf(sorted),
    rightByPrompt: groups.map((group) => {
      const tokens = group.reduce((sum, each) => sum + each.tokens, 0) / group.length;
      return [Math.round(tokens), shareOf(group)];
    }),
  };
}

function shareOf(group: readonly Scored[]): number {
  const full = group.reduce((sum, each) => sum + each.full, 0);
  if (full === 0) throw new Error(`full depth has no right answer to ${group.length} passages`);
  return Math.min(1, Math.round((1000 * group.reduce((sum, each) => sum + each.early, 0)) / full) / 1000);
}

/** The manifest's text with the measurement. */
export function withPromptRights(text: string, { exits, prompt: behind }: PromptRights): string {
  const manifest = JSON.parse(text) as Manifest;
  const measured = manifest.exits.map((exit) => {
    const rightByPrompt = exits.get(exit.layer);
    return rightByPrompt === undefined ? exit : { ...exit, quality: { ...exit.quality, rightByPrompt } };
  });
  const { prompt } = manifest;
  const own = prompt && behind !== null ? { prompt: { ...prompt, quality: { ...prompt.quality, ...behind } } } : {};
  return `${JSON.stringify({ ...manifest, exits: measured, ...own }, null, 2)}\n`;
}
