/**
 * Two real replicas behind HAProxy against the simulation of the same pool:
 * `npm run bench:replicas -- [--rates LIST] [--seconds N]`.
 *
 * Each replica has one thread and serves the embedded model on this machine. The client sends requests with budgets at
 * three rates. The simulation gets their arrivals, lengths and budgets, and the costs that `sortie calibrate` measures
 * on both cores at once, as the replicas share them. HAProxy and a machine without other load are required.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { packageRoot } from '../src/config.js';
import { parseCostFile, type CostFile } from '../src/simulate/costs.js';
import { simulateCommand } from '../src/simulate/command.js';
import { simulateDefaults } from '../src/simulate/options.js';
import { arrivalTimes } from '../src/load/arrivals.js';
import { seeded } from '../src/util/random.js';
import { positive, positives } from './options.js';
import { freePort, main, type Server, startServer, startSortie } from './server.js';

const MODEL = join(packageRoot, 'models', 'smollm2-135m-sorted');
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
const WORDS = 'river stone bread window garden letter winter music paper bridge'.split(' ');

/** One request, and its answer as the client sees it. */
interface Answered {
  /** Milliseconds from the start of the run. */
  readonly atMs: number;
  readonly budgetMs: number;
  readonly promptTokens: number;
  readonly tokens: number;
  readonly met: boolean;
  readonly exits: Readonly<Record<string, number>>;
}

interface Body {
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
  readonly sortie: { readonly met: boolean; readonly exit_layers: Readonly<Record<string, number>> };
}

async function ask(url: string, i: number, atMs: number, random: () => number): Promise<Answered> {
  const word = (): string => WORDS[Math.floor(random() * WORDS.length)] ?? 'word';
  const words = Array.from({ length: 20 + Math.floor(random() * 80) }, word).join(' ');
  const budgetMs = BUDGETS[i % BUDGETS.length] ?? NaN;
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-latency-budget-ms': String(budgetMs) },
    // The number comes first, so that no prompt shares a prefix: the simulator has no prefix reuse.
    body: JSON.stringify({
      prompt: `${i} ${words}`,
      max_tokens: 20 + Math.floor(random() * 80),
      ignore_eos: true,
      seed: i,
    }),
  });
  if (!response.ok) throw new Error(`status ${response.status}: ${await response.text()}`);
  const { usage, sortie } = (await response.json()) as Body;
  const { prompt_tokens: promptTokens, completion_tokens: tokens } = usage;
  return { atMs, budgetMs, promptTokens, tokens, met: sortie.met, exits: sortie.exit_layers };
}

/** Sends requests at a mean rate per second, without waiting for answers. */
async function load(url: string, rate: number, seconds: number): Promise<Answered[]> {
  const random = seeded(Math.round(rate * 1000));
  const start = performance.now();
  const answers: Promise<Answered>[] = [];
  for (const at of arrivalTimes(Math.round(rate * seconds), rate, 'poisson', random)) {
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, at - (performance.now() - start))));
    answers.push(ask(url, answers.length, performance.now() - start, random));
  }
  return Promise.all(answers);
}

/** The run as a log that `simulate` reads. */
function traceOf(answers: readonly Answered[]): string {
  return answers
    .map(({ atMs, budgetMs, promptTokens, tokens }) =>
      JSON.stringify({
        ...{ msg: 'request', time: 1e12 + atMs, ms: 0, prompt_tokens: promptTokens, completion_tokens: tokens },
        sortie: { budget_ms: budgetMs },
      }),
    )
    .join('\n');
}

/** Mean quality of the tokens, as the simulation's report has it. */
function qualityOf(answers: readonly Answered[], { shape }: CostFile): number {
  let [sum, count] = [0, 0];
  for (const [layer, tokens] of answers.flatMap(({ exits }) => Object.entries(exits))) {
    const exit = shape.exits.find((each) => each.layer === Number(layer));
    if (exit === undefined) throw new Error(`no exit ${layer} in the costs`);
    sum += exit.quality * tokens;
    count += tokens;
  }
  return sum / count;
}

/** HAProxy with the file of deploy/ in front of these servers. */
async function startProxy(dir: string, replicas: readonly Server[]): Promise<Server> {
  const [front, operations] = [await freePort(), await freePort()];
  const [a, b] = replicas.map(({ url }) => new URL(url).port);
  const ports = { 8080: front, 8081: a, 9081: a, 8082: b, 9082: b, 8404: operations };
  let text = readFileSync(join(packageRoot, 'deploy', 'haproxy', 'haproxy.cfg'), 'utf8');
  for (const [from, to] of Object.entries(ports))
    text = text.replace(new RegExp(`(?<=:|port )${from}\\b`, 'g'), String(to));
  const file = join(dir, 'haproxy.cfg');
  writeFileSync(file, text);
  return startServer(['haproxy', '-db', '-q', '-f', file], '/health/ready', front);
}

/** Costs of one thread while another process uses the other core in the same way. */
async function calibrateBoth(file: string): Promise<CostFile> {
  const calibrate = () => promisify(execFile)(process.execPath, [main, 'calibrate', MODEL, '--threads', '1']);
  const [{ stdout }] = await Promise.all([calibrate(), calibrate()]);
  writeFileSync(file, stdout);
  return parseCostFile(stdout);
}

const { values } = parseArgs({
  options: { rates: { type: 'string', default: '0.5,1,2' }, seconds: { type: 'string', default: '60' } },
});
const rates = positives('--rates', values.rates);
const seconds = positive('--seconds', values.seconds);
const dir = mkdtempSync(join(tmpdir(), 'sortie-replicas-'));
const costFile = join(dir, 'cost.json');
const costs = await calibrateBoth(costFile);
const servers = await Promise.all([startSortie(MODEL, ['--threads', '1']), startSortie(MODEL, ['--threads', '1'])]);
try {
  const proxy = await startProxy(dir, servers);
  servers.push(proxy);
  const props = (await (await fetch(`${proxy.url}/props`)).json()) as {
    limits: { kv_tokens: number; max_model_len: number };
  };
  console.log(
    `${cpus()[0]?.model ?? 'unknown CPU'}, load average ${loadavg()[0]?.toFixed(2) ?? ''}, ${seconds} s a rate`,
  );
  console.log('requests/s | requests | attainment measured | simulated | mean quality measured | simulated');
  for (const rate of rates) {
    const answers = await load(proxy.url, rate, seconds);
    const trace = join(dir, `${rate}.log`);
    writeFileSync(trace, traceOf(answers));
    const [report] = await simulateCommand(
      {
        ...{
          ...simulateDefaults,
          trace,
          cost: costFile,
          speeds: [1],
          replicas: 2,
          maxReplicas: 2,
          limit: answers.length,
        },
        ...{ limits: 'stated', kvPositions: props.limits.kv_tokens, maxLength: props.limits.max_model_len },
      },
      () => undefined,
    );
    if (report === undefined) throw new Error('the simulation has no report');
    const measured = answers.filter(({ met }) => met).length / answers.length;
    const numbers = [measured, report.attainment, qualityOf(answers, costs), report.meanQuality];
    console.log([rate, answers.length, ...numbers.map((value) => value.toFixed(3))].join(' | '));
  }
} finally {
  for (const server of servers.reverse()) await server.stop();
}
