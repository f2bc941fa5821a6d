/** The accuracy behind a prompt exit by the length of the prompt, on passages of the tuning half. */
import { closedLoop } from '../../src/loadgen/run.js';
import type { Manifest, Quality } from '../../src/model/manifest.js';
import { NO_BUDGET } from '../../src/loadgen/budgets.js';
import { jobsOf, sender } from './job.js';
import { passages } from './passages.js';
import { sideOf, type SidedModel } from './side.js';

/** Passages of a point. Full depth of the embedded model answers two fifths of them, so a share has an error of .1. */
const PASSAGES = 60;
const POINTS = 2;

export type PromptRight = Required<Pick<Quality, 'right' | 'rightByPrompt'>>;

/** A passage with the scores of its answers. */
export interface Scored {
  /** Tokens of the prompt. */
  readonly tokens: number;
  readonly full: number;
  readonly behind: number;
}

/**
 * Asks the passages at full depth and behind the prompt exit, without a budget.
 * @param url of an idle server
 * @throws Error for a model with one depth of prompts
 */
export async function promptRight(
  url: string,
  model: SidedModel,
  { slots, maxTokens }: { readonly slots: number; readonly maxTokens?: number | undefined },
): Promise<PromptRight> {
  const { promptExit, layers, name } = model;
  if (promptExit === null) throw new Error(`--prompt-right must have a model with two depths of prompts, got ${name}`);
  const questions = passages('tuning', PASSAGES * POINTS);
  const endless = [{ name: 'none', budget: NO_BUDGET }];
  const jobs = jobsOf(questions, endless, questions.length, 0, maxTokens ?? null);
  const scores = async (side: string): Promise<Map<string, number>> => {
    const sent = await closedLoop(sender(url, name, sideOf(side, model)), jobs, slots);
    return new Map(sent.map(({ job, answer }) => [job.question, answer.right ?? 0]));
  };
  const deepest = `fixed ${layers.at(-1)}`;
  const full = await scores(deepest);
  const behind = await scores(`${deepest} behind ${promptExit}`);
  const scored: Scored[] = [];
  for (const { text } of questions)
    scored.push({ tokens: await tokensOf(url, text), full: full.get(text) ?? 0, behind: behind.get(text) ?? 0 });
  return measuredOf(scored, POINTS);
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
  return Math.min(1, Math.round((1000 * group.reduce((sum, each) => sum + each.behind, 0)) / full) / 1000);
}

/** The manifest's text with the measurement. @throws Error for a manifest without a prompt exit */
export function withPromptRight(text: string, measured: PromptRight): string {
  const manifest = JSON.parse(text) as Manifest;
  const { prompt } = manifest;
  if (prompt === undefined) throw new Error('the manifest must have a prompt exit beside full depth');
  const quality = { ...prompt.quality, ...measured };
  return `${JSON.stringify({ ...manifest, prompt: { ...prompt, quality } }, null, 2)}\n`;
}
