/**
 * Right answers in time of real replicas behind proxies, on this machine:
 * `npm run bench:replicas -- [--sides split,haproxy,envoy] [--rates LIST] [--seconds N] [--seeds LIST]`.
 *
 * Each replica has one thread and serves the embedded model. `split` sends to the replicas in turns, as to separate
 * servers with an ideal split. The sides take turns, so that other work on the machine meets all of them. The requests
 * are those of bench:goodput. A rate is a multiple of the throughput of one replica at full depth.
 *
 * The programs `haproxy` and `envoy` are required.
 */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/cli/options/config.js';
import { quantile } from '../src/util/stats.js';
import { machine } from './machine.js';
import { EMBEDDED, number, numbers, optionsOf, text } from './options.js';
import { freePort } from './ports.js';
import { rightInTime, setupOf } from './replicas/questions.js';
import { type Server, startServer, startSortie, stopServers } from './server.js';

/** The files of deploy/ have two. */
const REPLICAS = 2;

const SIDES = ['split', 'haproxy', 'envoy'] as const;
type Side = (typeof SIDES)[number];
type Proxy = 'haproxy' | 'envoy';

/** A proxy with the file of deploy/ in front of two servers. */
async function startProxy(proxy: Proxy, dir: string, replicas: readonly Server[]): Promise<Server> {
  const [front, operations] = [await freePort(), await freePort()];
  const [a, b] = replicas.map(({ url }) => new URL(url).port);
  const ports = { 8080: front, 8081: a, 9081: a, 8082: b, 9082: b, 8404: operations, 9901: operations };
  const name = proxy === 'haproxy' ? 'haproxy.cfg' : 'envoy.yaml';
  let config = readFileSync(join(packageRoot, 'deploy', proxy, name), 'utf8');
  for (const [from, to] of Object.entries(ports))
    config = config.replace(new RegExp(`(?<=:|port |port_value: )${from}\\b`, 'g'), String(to));
  // Conversations would keep their server.
  config = config.replace(/^ *use-server .*\n/gm, '');
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

const values = optionsOf('bench:replicas', 'right answers in time of two replicas behind proxies', {
  sides: text('list', `some of ${SIDES.join(', ')}`, 'haproxy'),
  rates: numbers('multiples of the throughput of one replica at full depth', [1, 1.6]),
  seconds: number('duration of each run', 60),
  seeds: numbers('seeds of arrivals', [1]),
  short: number('short requests through each proxy and without it', 500),
});
const sides = values.sides.split(',').map((name): Side => {
  const side = SIDES.find((each) => each === name);
  if (side === undefined) throw new Error(`--sides must be of ${SIDES.join(', ')}, got "${name}"`);
  return side;
});
const { rates, seconds, seeds, short } = values;
const dir = mkdtempSync(join(tmpdir(), 'sortie-replicas-'));
const cache = join(dir, 'costs');
const options = ['--threads', '1', '--load-header', 'on', '--audit', 'off', '--cache-dir', cache];
// The first replica measures the costs, and the others start with its table.
const servers = [await startSortie(EMBEDDED, options)];
while (servers.length < REPLICAS) servers.push(await startSortie(EMBEDDED, options));
const direct = servers.map(({ url }) => url);
const proxies: Server[] = [];

/** The runs of all sides, each pair of rate and seed in another order. */
function* inTurns(): Generator<{ readonly side: Side; readonly rate: number; readonly seed: number }> {
  let turn = 0;
  for (const seed of seeds)
    for (const rate of rates) {
      for (let i = 0; i < sides.length; i++) yield { side: sides[(turn + i) % sides.length] ?? 'split', rate, seed };
      turn++;
    }
}

const row = (...cells: (string | number)[]): void => {
  const shown = (cell: string | number) =>
    typeof cell === 'number' && !Number.isInteger(cell) ? cell.toFixed(3) : cell;
  console.log(cells.map(shown).join(' | '));
};

/** Right answers in time. */
async function askQuestions(urls: ReadonlyMap<Side, readonly string[]>): Promise<void> {
  const setup = await setupOf(direct[0] ?? '');
  console.log(`one replica at full depth: ${setup.perSecond.toFixed(2)} requests/s`);
  row('side', 'load of one replica', 'seed', 'requests', 'right in time', 'in time', 'standard error');
  for (const { side, rate, seed } of inTurns()) {
    const of = await rightInTime(urls.get(side) ?? [], setup, { rate, seconds, seed });
    const error = of.deviation / Math.sqrt(of.requests);
    row(side, rate, seed, of.requests, of.rightInTime ?? NaN, of.inTime, error);
  }
}

try {
  console.log(`${machine()}, ${seconds} s a run`);
  const urls = new Map<Side, readonly string[]>();
  for (const side of sides) {
    if (side === 'split') urls.set(side, direct);
    else {
      const proxy = await startProxy(side, dir, servers);
      proxies.push(proxy);
      urls.set(side, [proxy.url]);
      const [own = NaN, through = NaN] = await shortP99([direct[0] ?? '', proxy.url], short);
      console.log(`${side}: p99 of a short request ${through.toFixed(2)} ms, without the proxy ${own.toFixed(2)} ms`);
    }
  }
  await askQuestions(urls);
} finally {
  await stopServers([...servers, ...proxies]);
}
