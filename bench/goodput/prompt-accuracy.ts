/** The accuracy of every exit by the length of the prompt, on passages of the tuning half. */
import type { KeptPoint, Manifest } from '../../src/engine/model/manifest.js';
import { type CheckedRequest, REQUESTS } from '../everyday/requests.js';
import { closedLoop } from '../loadgen/run.js';
import { meanOf } from '../loadgen/summary.js';
import { checkedQuestions, ENDLESS, jobsOf, sender } from './job.js';
import { passages } from './passages.js';
import { sideOf, type SidedModel } from './side.js';

/** Passages of a point. Full depth of the embedded model answers two fifths of them, so a share has an error of .1. */
const PASSAGES = 60;
const POINTS = 2;

/** By layer. The first point is the accuracy on everyday requests of the manifest, at their mean length. */
export type PromptAccuracies = ReadonlyMap<number, readonly KeptPoint[]>;

/** A passage with the scores of its answers. */
export interface Scored {
  /** Tokens of the prompt. */
  readonly tokens: number;
  readonly full: number;
  /** At the exit that is measured. */
  readonly early: number;
}

/**
 * Asks the passages at full depth, and at every exit with a measured accuracy. No request has a budget.
 * @param url of an idle server
 */
export async function promptAccuracies(url: string, model: SidedModel, slots: number): Promise<PromptAccuracies> {
  const { layers, name, accuracy } = model;
  const questions = passages('tuning', PASSAGES * POINTS);
  const scores = async (layer: number | undefined): Promise<number[]> => {
    const jobs = jobsOf(questions, ENDLESS, questions.length, 0);
    const sent = await closedLoop(sender(url, name, sideOf(`fixed ${layer}`, model)), jobs, slots);
    const found = new Map(sent.map(({ job, answer }) => [job.question, answer.right]));
    return questions.map(({ request }) => found.get(request) ?? 0);
  };
  const tokens = await tokensOf(url, questions);
  const short = Math.round(meanOf(await tokensOf(url, checkedQuestions(REQUESTS, 'tuning'))));
  const full = await scores(layers.at(-1));
  const exits = new Map<number, readonly KeptPoint[]>();
  for (const layer of layers.slice(0, -1)) {
    const everyday = accuracy.get(layer);
    if (everyday === undefined) continue;
    const early = await scores(layer);
    const scored = tokens.map((length, i) => ({ tokens: length, full: full[i] ?? 0, early: early[i] ?? 0 }));
    exits.set(layer, [[short, everyday], ...pointsOf(scored, POINTS)]);
  }
  return exits;
}

/** Lengths of the prompts. */
async function tokensOf(url: string, questions: readonly CheckedRequest[]): Promise<number[]> {
  const lengths: number[] = [];
  for (const { request: prompt } of questions) {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/tokenize`, { method: 'POST', headers, body: JSON.stringify({ prompt }) });
    lengths.push(((await response.json()) as { readonly count: number }).count);
  }
  return lengths;
}

/**
 * Shares of full depth's right answers, at most 1, of so many groups by their length.
 * @throws Error if full depth has no right answer in a group
 */
export function pointsOf(scored: readonly Scored[], points: number): KeptPoint[] {
  const sorted = [...scored].sort((a, b) => a.tokens - b.tokens);
  return Array.from({ length: points }, (_, i) => {
    const group = sorted.slice((i * sorted.length) / points, ((i + 1) * sorted.length) / points);
    const sum = (part: keyof Scored): number => group.reduce((all, each) => all + each[part], 0);
    if (sum('full') === 0) throw new Error(`full depth has no right answer to ${group.length} passages`);
    const share = Math.min(1, Math.round((1000 * sum('early')) / sum('full')) / 1000);
    return [Math.round(sum('tokens') / group.length), share];
  });
}

/** The manifest's text with the measurement. */
export function withPromptAccuracies(text: string, measured: PromptAccuracies): string {
  const manifest = JSON.parse(text) as Manifest;
  const exits = manifest.exits.map((exit) => {
    const accuracyByPrompt = measured.get(exit.layer);
    return accuracyByPrompt === undefined ? exit : { ...exit, quality: { ...exit.quality, accuracyByPrompt } };
  });
  return `${JSON.stringify({ ...manifest, exits }, null, 2)}\n`;
}
