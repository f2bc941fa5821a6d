/** The accuracy of every exit by the length of the prompt, on passages of the tuning half. */
import { closedLoop } from '../../src/loadgen/run.js';
import type { KeptPoint, Manifest, Quality } from '../../src/model/manifest.js';
import { NO_BUDGET } from '../../src/loadgen/budgets.js';
import { readRequests, REQUESTS } from '../everyday/requests.js';
import { jobsOf, sender } from './job.js';
import { passages } from './passages.js';
import { sideOf, type SidedModel } from './side.js';

/** Passages of a point. Full depth of the embedded model answers two fifths of them, so a share has an error of .1. */
const PASSAGES = 60;
const POINTS = 2;

export type PromptRight = Required<Pick<Quality, 'right' | 'rightByPrompt'>>;

export interface PromptRights {
  /** By layer. The first point is the accuracy on everyday requests, at their mean length. */
  readonly exits: ReadonlyMap<number, readonly KeptPoint[]>;
  /** Behind the prompt exit; null for a model with one depth of prompts. */
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
  const questions = passages('tuning', PASSAGES * POINTS);
  const endless = [{ name: 'none', budget: NO_BUDGET }];
  const jobs = jobsOf(questions, endless, questions.length, 0, maxTokens ?? null);
  const scores = async (side: string): Promise<Map<string, number>> => {
    const sent = await closedLoop(sender(url, name, sideOf(side, model)), jobs, slots);
    return new Map(sent.map(({ job, answer }) => [job.question, answer.right ?? 0]));
  };
  const tokens: number[] = [];
  for (const { text } of questions) tokens.push(await tokensOf(url, text));
  const deepest = layers.at(-1);
  const full = await scores(`fixed ${deepest}`);
  const measured = async (side: string): Promise<PromptRight> => {
    const early = await scores(side);
    const scored = questions.map(({ text }, i) => {
      return { tokens: tokens[i] ?? 0, full: full.get(text) ?? 0, early: early.get(text) ?? 0 };
    });
    return measuredOf(scored, POINTS);
  };
  const short = await everydayTokens(url);
  const exits = new Map<number, readonly KeptPoint[]>();
  for (const layer of layers.slice(0, -1)) {
    const right = accuracy.get(String(layer));
    if (right === undefined) continue;
    exits.set(layer, [[short, right], ...(await measured(`fixed ${layer}`)).rightByPrompt]);
  }
  return { exits, prompt: promptExit === null ? null : await measured(`fixed ${deepest} behind ${promptExit}`) };
}

/** Mean tokens of the everyday requests. */
async function everydayTokens(url: string): Promise<number> {
  const requests = readRequests(REQUESTS).filter(({ half }) => half === 'tuning');
  let sum = 0;
  for (const { request } of requests) sum += await tokensOf(url, request);
  return Math.round(sum / requests.length);
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
