/**
 * Real replicas behind proxies against the simulation of the same pool:
 * `npm run bench:replicas -- [--sides split,haproxy,envoy] [--rates LIST] [--seconds N]`.
 *
 * Each replica has one thread and serves the embedded model on this machine. `split` sends to the replicas in turns, as
 * to separate servers. For each rate, `sortie bench` and the simulation get one log of arrivals, lengths and budgets. The
 * simulation has the policy of the proxy, and the costs that `sortie calibrate` measures on all cores at once, as the
 * replicas share them. The programs `haproxy` and `envoy`, and a machine without other load, are required.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../src/config.js';
import { arrivalTimes } from '../src/load/arrivals.js';
import { benchCommand } from '../src/load/command.js';
import { benchDefaults } from '../src/load/options.js';
import { meanOf, type Summary } from '../src/load/summary.js';
import { simulateCommand } from '../src/simulate/command.js';
import { type CostFile, parseCostFile } from '../src/simulate/costs.js';
import { simulateDefaults } from '../src/simulate/options.js';
import { meanQualityOf } from '../src/simulate/report.js';
import { seeded } from '../src/util/random.js';
import { quantile } from '../src/util/stats.js';
import { EMBEDDED, number, numbers, optionsOf, text } from './options.js';
import { freePort, main, type Server, startServer, startSortie } from './server.js';
import { tableOf } from './table.js';

/** The files of deploy/ have two. */
const REPLICAS = 2;
/** Total budgets in turn, ms. */
const BUDGETS = [1500, 3000, 6000, 12_000];
const SIDES = ['split', 'haproxy', 'envoy'] as const;
type Side = (typeof SIDES)[number];

/** Writes the requests of a rate as a log: one file for each address, which get them in turns. */
function writeLogs(dir: string, rate: number, seconds: number, addresses: number): string[] {
  const random = seeded(Math.round(rate * 1000));
  const length = (): number => 20 + Math.floor(random() * 80);
  const lines = arrivalTimes(Math.round(rate * seconds), rate, 'poisson', random).map((at, i) =>
    JSON.stringify({
      ...{ msg: 'request', time: 1e12 + at, ms: 0, prompt_tokens: length(), completion_tokens: length() },
      sortie: { budget_ms: BUDGETS[i % BUDGETS.length] },
    }),
  );
  return Array.from({ length: addresses }, (_, own) => {
    const file = join(dir, `${rate}-${own}.log`);
    writeFileSync(file, lines.filter((__, i) => i % addresses === own).join('\n'));
    return file;
  });
}

/** A proxy with the file of deploy/ in front of two servers. */
async function startProxy(proxy: 'haproxy' | 'envoy', dir: string, replicas: readonly Server[]): Promise<Server> {
  const [front, operations] = [await freePort(), await freePort()];
  const [a, b] = replicas.map(({ url }) => new URL(url).port);
  const ports = { 8080: front, 8081: a, 9081: a, 8082: b, 9082: b, 8404: operations, 9901: operations };
  const name = proxy === 'haproxy' ? 'haproxy.cfg' : 'envoy.yaml';
  let config = readFileSync(join(packageRoot, 'deploy', proxy, name), 'utf8');
  for (const [from, to] of Object.entries(ports))
    config = config.replace(new RegExp(`(?<=:|port |port_value: )${from}\\b`, 'g'), String(to));
  const file = join(dir, name);
  writeFileSync(file, config);
  const command =
    proxy === 'haproxy'
      ? ['haproxy', '-db', '-q', '-f', file]
      : ['envoy', '-c', file, '--disable-hot-restart', '--concurrency', '1', '-l', 'error'];
  return startServer(command, '/health/ready', front);
}

/** 99% quantiles in ms of short requests through each address, in turns. */
async function shortP99(urls: readonly string[], count: number): Promise<number[]> {
  const times = urls.map((): number[] => []);
  for (let i = 0; i < count; i++)
    for (const [side, url] of urls.entries()) {
      const start = performance.now();
      await (await fetch(`${url}/version`)).text();
      times[side]?.push(performance.now() - start);
    }
  return times.map((each) => quantile(each, 0.99));
}

/** Costs of one thread while other processes use the other cores in the same way. */
async function calibrateAll(file: string): Promise<CostFile> {
  const calibrate = () => promisify(execFile)(process.execPath, [main, 'calibrate', EMBEDDED, '--threads', '1']);
  const [{ stdout } = { stdout: '' }] = await Promise.all(Array.from({ length: REPLICAS }, calibrate));
  writeFileSync(file, stdout);
  return parseCostFile(stdout);
}

const values = optionsOf('bench:replicas', 'two replicas behind proxies against the simulator', {
  sides: text('list', `some of ${SIDES.join(', ')}`, 'haproxy'),
  rates: numbers('requests per second', [0.5, 1, 2]),
  seconds: number('duration of each rate', 60),
});
const sides = values.sides.split(',').map((name): Side => {
  const side = SIDES.find((each) => each === name);
  if (side === undefined) throw new Error(`--sides must be of ${SIDES.join(', ')}, got "${name}"`);
  return side;
});
const dir = mkdtempSync(join(tmpdir(), 'sortie-replicas-'));
const cost = join(dir, 'cost.json');
const { shape } = await calibrateAll(cost);
const options = ['--threads', '1', '--load-header', 'on'];
const servers = await Promise.all(Array.from({ length: REPLICAS }, () => startSortie(EMBEDDED, options)));
const direct = servers.map(({ url }) => url);
const proxies: Server[] = [];

/** The client's summaries of the requests in the logs, one for each address. */
async function measured(urls: readonly string[], logs: readonly string[]): Promise<Summary[]> {
  const io = { say: () => undefined, terminal: null, signal: new AbortController().signal };
  const runs = urls.map((url, i) =>
    benchCommand({ ...benchDefaults, url, trace: logs[i] ?? null, lengths: 'trace', api: 'completions' }, io),
  );
  return (await Promise.all(runs)).flatMap((result) => result.runs.map(({ summary }) => summary));
}

async function simulated(side: Side, trace: string) {
  const { limits } = (await (await fetch(`${direct[0] ?? ''}/props`)).json()) as {
    limits: { kv_tokens: number; max_model_len: number };
  };
  const [report] = await simulateCommand(
    {
      ...{ ...simulateDefaults, trace, cost, speeds: [1], limit: 1e6, limits: 'stated' },
      ...{ kvPositions: limits.kv_tokens, maxLength: limits.max_model_len, replicas: REPLICAS, maxReplicas: REPLICAS },
      balance: side === 'envoy' ? 'orca' : 'least_request',
    },
    () => undefined,
  );
  if (report === undefined) throw new Error('the simulation has no report');
  return report;
}

try {
  console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, load average ${loadavg()[0]?.toFixed(2) ?? ''}`);
  const urls = new Map<Side, readonly string[]>();
  for (const side of sides) {
    if (side === 'split') urls.set(side, direct);
    else {
      const proxy = await startProxy(side, dir, servers);
      proxies.push(proxy);
      urls.set(side, [proxy.url]);
      const [own = NaN, through = NaN] = await shortP99([direct[0] ?? '', proxy.url], 500);
      console.log(`${side}: p99 of a short request ${through.toFixed(2)} ms, without the proxy ${own.toFixed(2)} ms`);
    }
  }
  const rows = [
    ['side', 'requests/s', 'requests', 'attainment measured', 'simulated', 'mean quality measured', 'simulated'],
  ];
  for (const rate of values.rates)
    for (const [side, addresses] of urls) {
      const found = await measured(addresses, writeLogs(dir, rate, values.seconds, addresses.length));
      const report = await simulated(side, writeLogs(dir, rate, values.seconds, 1)[0] ?? '');
      const [attainment, quality] = [
        found.map((each) => each.attainment),
        found.map((each) => meanQualityOf(each, shape)),
      ];
      const cells = [meanOf(attainment), report.attainment, meanOf(quality), report.meanQuality];
      const requests = found.reduce((sum, each) => sum + each.requests, 0);
      rows.push([side, String(rate), String(requests), ...cells.map((value) => value.toFixed(3))]);
    }
  for (const line of tableOf(rows)) console.log(line);
} finally {
  for (const server of [...proxies, ...servers]) await server.stop();
}
