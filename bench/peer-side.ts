/** llama.cpp's llama-batched-bench as a side of bench:engine. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Rate, Scenario } from './scenario.js';

const run = promisify(execFile);

/** Finds a program in a build of llama.cpp. @throws Error if it is missing */
export function peerProgram(dir: string, name: string): string {
  const candidates = [join(dir, name), join(dir, 'build', 'bin', name), join(dir, 'llama.cpp', 'build', 'bin', name)];
  const found = candidates.find((file) => existsSync(file));
  if (!found) throw new Error(`--peer: no ${name} in ${dir}`);
  return found;
}

interface Line {
  readonly pp: number;
  readonly pl: number;
  readonly speed_pp: number;
  readonly speed_tg: number;
}

/** Settings of flash attention. Both run, because the faster one depends on processor and scenario. */
export const ATTENTION = ['on', 'off'] as const;

/** The best rates of several runs of the same scenarios. */
export function better(runs: readonly (readonly Rate[])[]): Rate[] {
  const best = (index: number, rate: keyof Rate): number => Math.max(...runs.map((run) => run[index]?.[rate] ?? NaN));
  return (runs[0] ?? []).map((_, i) => ({ prefill: best(i, 'prefill'), decode: best(i, 'decode') }));
}

/** Rates of llama-batched-bench. */
export async function peerRates(
  dir: string,
  model: string,
  threads: number,
  scenarios: readonly Scenario[],
): Promise<Rate[]> {
  const runs: Rate[][] = [];
  for (const attention of ATTENTION) {
    const rates: Rate[] = [];
    for (const scenario of scenarios) rates.push(await peerRate(dir, model, threads, scenario, attention));
    runs.push(rates);
  }
  return better(runs);
}

async function peerRate(
  dir: string,
  model: string,
  threads: number,
  { parallel, promptTokens, answerTokens }: Scenario,
  flashAttention: string,
): Promise<Rate> {
  const context = Math.max(16_384, parallel * (promptTokens + answerTokens));
  const compute = ['-m', model, '-t', String(threads), '-c', String(context), '-fa', flashAttention];
  const scenario = ['-npp', String(promptTokens), '-ntg', String(answerTokens - 1), '-npl', String(parallel)];
  const more = ['-b', '2048', '-ub', '512', '--output-format', 'jsonl'];
  const { stdout } = await run(peerProgram(dir, 'llama-batched-bench'), [...compute, ...scenario, ...more]);
  const line = stdout.split('\n').find((each) => each.startsWith('{'));
  if (line === undefined) throw new Error('llama-batched-bench printed no result');
  const { speed_pp, speed_tg } = JSON.parse(line) as Line;
  return { prefill: speed_pp, decode: speed_tg };
}
