/** The sides of bench:engine: engine processes, llama.cpp, both behind their HTTP servers, and servers that run. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { StageKernel } from '../../src/engine/model/manifest.js';
import { EngineClient } from '../../src/gateway/engine-client/client.js';
import type { EngineOptions } from '../../src/protocol/engine-options.js';
import type { PartMs, StepMessage, StepPart } from '../../src/protocol/index.js';
import { GREEDY } from '../../src/protocol/request.js';
import { answerOf, greedy, GREEDY_BASE } from '../greedy-request.js';
import { engineOptions } from '../options.js';
import { eventData } from '../remote/stream.js';
import { peerProgram, startPeer, startSortie, withServer } from '../server.js';
import { type Rate, ratesOf, type Scenario, SCENARIOS } from './scenario.js';

/** The processor of Sortie's sides. */
export type Machine = Required<Pick<EngineOptions, 'threads' | 'device' | 'deviceIndex'>>;

export interface BenchSide {
  readonly name: string;
  readonly run: () => Promise<Rate[]>;
}

const base = (path: string): string => path.replace(/\/+$/, '').split('/').at(-1) ?? path;

/** @param exit `full`, or the layer of an exit. @param kernels null for the folder's */
export function engineSide(
  dir: string,
  exit: string,
  { threads, ...device }: Machine,
  kernels: readonly StageKernel[] | null,
): BenchSide {
  const name = ['sortie', base(dir), ...(kernels === null ? [] : [kernels.join('+')]), exit].join(' ');
  return { name, run: () => engineRates(engineOptions(dir, threads, { ...device, kernels }), exit) };
}

/** Runs the scenarios at one exit in an engine process of its own. */
async function engineRates(options: EngineOptions, exit: string): Promise<Rate[]> {
  const engine = new EngineClient(options);
  const { exits } = await engine.start();
  const full = exits.at(-1) ?? 0;
  const depth = exit === 'full' ? full : Number(exit);
  // Full depth answers as the base does, like llama.cpp's side. Other exits have their DRY rule.
  const sampling = depth === full ? GREEDY_BASE : GREEDY;
  let steps: StepMessage[] = [];
  engine.on('step', (step) => steps.push(step));
  let id = 0;
  try {
    return await ratesOf(
      async (prompt, answerTokens, token) => {
        await answerOf(engine, greedy(`bench-${id++}`, prompt, depth, answerTokens, { sampling }), token);
      },
      (scenario) => {
        sayParts(scenario, steps);
        steps = [];
      },
    );
  } finally {
    await engine.close();
  }
}

/** Says the mean parts of the steps that decode all rows, on the bench's standard error. */
function sayParts({ parallel, promptTokens }: Scenario, steps: readonly StepMessage[]): void {
  const decoding = steps.flatMap(({ tokens, work }): PartMs[] =>
    work !== null && work.prefillTokens === 0 && tokens.length === parallel ? [work.partMs] : [],
  );
  const mean = (part: StepPart): number => decoding.reduce((sum, parts) => sum + parts[part], 0) / decoding.length;
  const parts = (Object.keys(decoding[0] ?? {}) as StepPart[]).map((part) => `${part} ${mean(part).toFixed(2)}`);
  process.stderr.write(`  ${parallel} x ${promptTokens}: ms of a decode step: ${parts.join(', ')}\n`);
}

/** Settings of flash attention. Both run, because the faster one depends on processor and scenario. */
const ATTENTION = ['on', 'off'] as const;

/** The best rates of the runs with each setting of flash attention. */
async function best(run: (attention: string) => Promise<Rate[]>): Promise<Rate[]> {
  const runs: Rate[][] = [];
  for (const attention of ATTENTION) runs.push(await run(attention));
  const most = (index: number, rate: keyof Rate): number =>
    Math.max(...runs.map((rates) => rates[index]?.[rate] ?? NaN));
  return SCENARIOS.map((_, i) => ({ prefill: most(i, 'prefill'), decode: most(i, 'decode') }));
}

/** llama-batched-bench. @param peer a build of llama.cpp */
export function peerSide(peer: string, file: string, threads: number): BenchSide {
  const run = async (attention: string): Promise<Rate[]> => {
    const rates: Rate[] = [];
    for (const scenario of SCENARIOS) rates.push(await peerRate(peer, file, threads, scenario, attention));
    return rates;
  };
  return { name: `llama.cpp ${base(file)}`, run: () => best(run) };
}

async function peerRate(
  dir: string,
  model: string,
  threads: number,
  { parallel, promptTokens, answerTokens }: Scenario,
  attention: string,
): Promise<Rate> {
  const context = Math.max(16_384, parallel * (promptTokens + answerTokens));
  const compute = ['-m', model, '-t', String(threads), '-c', String(context), '-fa', attention];
  const scenario = ['-npp', String(promptTokens), '-ntg', String(answerTokens - 1), '-npl', String(parallel)];
  const more = ['-b', '2048', '-ub', '512', '--output-format', 'jsonl'];
  const program = peerProgram(dir, 'llama-batched-bench');
  const { stdout } = await promisify(execFile)(program, [...compute, ...scenario, ...more]);
  const line = stdout.split('\n').find((each) => each.startsWith('{'));
  if (line === undefined) throw new Error('llama-batched-bench printed no result');
  const { speed_pp, speed_tg } = JSON.parse(line) as { readonly speed_pp: number; readonly speed_tg: number };
  return { prefill: speed_pp, decode: speed_tg };
}

/** @param exit as above */
export function httpSide(model: string, exit: string, { threads, device, deviceIndex }: Machine): BenchSide {
  const options = ['--threads', String(threads), '--device', device === 'cpu' ? device : `${device}:${deviceIndex}`];
  const run = async ({ url }: { readonly url: string }): Promise<Rate[]> => {
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    const id = exit === 'full' ? data.at(-1)?.id : `${data[0]?.id ?? ''}:${exit}`;
    return httpRates(url, id ?? '');
  };
  return { name: `http ${base(model)} ${exit}`, run: () => withServer(startSortie(model, options), run) };
}

/** @param peer a build of llama.cpp */
export function httpPeerSide(peer: string, file: string, threads: number): BenchSide {
  const run = (attention: string): Promise<Rate[]> =>
    withServer(startPeer(peer, file, { threads, slots: 16, attention }), ({ url }) => httpRates(url, 'any'));
  return { name: `http llama-server ${base(file)}`, run: () => best(run) };
}

/** An OpenAI-compatible server that runs, by its model's name. */
export function urlSide(url: string, model: string): BenchSide {
  return { name: `http ${url}`, run: () => httpRates(url, model) };
}

/** @param model name with exit, as in /v1/models. @throws Error with the status if the server rejects a request */
function httpRates(url: string, model: string): Promise<Rate[]> {
  return ratesOf(async (prompt, max_tokens, token) => {
    const plain = { temperature: 0, dry_multiplier: 0, ignore_eos: true, stream: true };
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model, prompt, max_tokens, ...plain }),
    });
    if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
    for await (const event of eventData(response.body)) if (event.includes('"finish_reason":null')) token();
  });
}
