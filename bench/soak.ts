/**
 * Mixed load on the real server, to find memory leaks in minutes. Requests carry only the information of a client.
 *
 *   npm run soak -- --attack '' [--seconds 120] [--kv-memory 512MiB]
 *   npm run soak -- --rejections 300
 *   npm run soak -- [--minutes 20] [--clients 12] [--kv-memory 96MiB] [--model DIR] [--threads 2] [--seed 1]
 *
 * Clients send requests with random depths, budgets and streams; some disconnect, and some requests are wrong. Prints
 * progress and the resident memory of gateway and engine, then their slopes by least squares after the warm-up. The
 * warm-up is the first quarter, in which caches fill and heaps grow. The KV budget is small, so that it is full before
 * the warm-up ends. Exit code 1 for a slope above 1 MB per minute, an unexpected end of a request, or a request that
 * still runs at the end.
 *
 * With --attack, ten clients with budgets run beside one attacker, one attack after another. Exit code 1 unless they keep
 * 99% of their promises and lose no request, and memory is flat. With --rejections, a client repeats rejected requests
 * with the budgets that the rejections name.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { positive } from '../src/cli/values.js';
import { loadManifest } from '../src/engine/model/manifest-io.js';
import { bytes } from '../src/cli/options/kinds.js';
import { monotonicMs } from '../src/util/clock.js';
import { seeded } from '../src/util/random.js';
import { EMBEDDED, number, optional, optionsOf, runBench, text } from './options.js';
import { type Server, startSortie } from './server.js';
import {
  cellsOf,
  CLIENTS,
  faultsOf,
  GROWTH_MB,
  HEAD,
  honestKey,
  KEPT,
  type Row,
  underAttack,
} from './soak/attacked.js';
import { ATTACKS, type Target } from './soak/attacks.js';
import { send } from './soak/client.js';
import { followRejections } from './soak/honest.js';
import { residentMb, slope } from './soak/memory.js';
import { nextRequest, type Served } from './soak/mix.js';
import { liveAtRest, type SoakServer, soakServer, waits } from './soak/server.js';
import { tableOf } from './table.js';

const LIMIT_MB_PER_MINUTE = 1;
const WARM_UP_SHARE = 0.25;
const SAMPLE_MS = 2000;
const PROGRESS_MS = 30_000;
/** Most failures that are printed. */
const FAILURES_SHOWN = 20;
/** Key of the attacker. */
const ATTACKER = 'sk-attacker';

const values = optionsOf('soak', 'mixed load: is memory stable, and does every request end as expected?', {
  minutes: number('duration', 20),
  clients: number('concurrent requests', 12),
  kvMemory: text('size', 'KV budget of the server', '96MiB'),
  model: text('dir', 'model folder', EMBEDDED),
  threads: number('threads of the engine', 2),
  seed: number('seed of the requests', 1),
  attack: optional('name', 'honest clients beside one attacker: the attacks whose names have this text; "" for all'),
  rejections: optional('n', 'rejections that a client follows with the budget that they name'),
  seconds: number('duration of each attack', 120),
});

/** Rejections that are followed, of one answer and of eight. @returns the exit code */
async function rejected(server: SoakServer, count: number): Promise<number> {
  const rows: string[][] = [];
  let least = 1;
  for (const answers of [1, 8]) {
    const client = { url: server.url, key: null, pauseMs: 100, body: { n: answers, max_tokens: 16 } };
    const tally = await followRejections({ ...client, waitedMs: waits(server) }, count);
    for (const fault of tally.faults.slice(0, FAILURES_SHOWN)) console.error(fault);
    const { rejected: named, followed, followedKept, never, unnamed } = tally;
    rows.push([answers, named, followed, followedKept, never, unnamed].map(String));
    least = Math.min(least, followedKept / named);
  }
  const head = ['Answers a request', 'Named', 'Accepted at once', 'Kept', 'Chains of 8 without an end', 'Unnamed'];
  for (const line of tableOf([head, ...rows])) console.log(line);
  return least >= KEPT ? 0 : 1;
}

/** Honest clients beside each attack in turn. @returns the exit code */
async function attacked(server: SoakServer, target: Target): Promise<number> {
  const names = [null, ...ATTACKS.map(({ name }) => name)];
  const chosen = names.filter((name) => name?.includes(values.attack ?? '') ?? true);
  const rows: Row[] = [];
  for (const name of chosen) {
    const row = await underAttack(server, name, values.seconds, target);
    rows.push(row);
    for (const fault of row.tally.faults.slice(0, FAILURES_SHOWN)) console.error(`${row.name}: ${fault}`);
    console.error(cellsOf(row).join(' | '));
  }
  const kvBytes = bytes(1, '1').parse(values.kvMemory) ?? 0;
  const mostMb = (rows[0]?.memory.start ?? 0) + kvBytes / 1e6 + GROWTH_MB;
  const faults = rows.flatMap((row) => faultsOf(row, mostMb).map((fault) => `${row.name}: ${fault}`));
  console.log([...tableOf([HEAD, ...rows.map(cellsOf)]), ...faults].join('\n'));
  return faults.length === 0 ? 0 : 1;
}

/** @returns the exit code */
async function soak({ url, gateway, engine }: SoakServer, served: Served): Promise<number> {
  const startedAt = monotonicMs();
  const minutes = (): number => (monotonicMs() - startedAt) / 60_000;
  const { minutes: length, clients } = values;
  const random = seeded(values.seed);
  const count = { answered: 0, disconnected: 0, rejected: 0, failed: 0 };
  const counts = (): string =>
    Object.entries(count)
      .map(([end, n]) => `${n} ${end}`)
      .join(', ');
  const samples: { readonly minute: number; readonly gateway: number; readonly engine: number }[] = [];
  const slopes = () => {
    const after = samples.filter(({ minute }) => minute >= WARM_UP_SHARE * length);
    const of = (part: 'gateway' | 'engine') => slope(after.map((sample) => [sample.minute, sample[part]]));
    return { gateway: of('gateway'), engine: of('engine') };
  };

  const client = async (): Promise<void> => {
    while (minutes() < length) {
      const { end, detail } = await send(url, nextRequest(random, served));
      count[end]++;
      if (end === 'failed' && count.failed <= FAILURES_SHOWN) console.error(`failed: ${detail}`);
    }
  };
  const watch = async (): Promise<void> => {
    let shownAt = 0;
    while (minutes() < length) {
      samples.push({ minute: minutes(), gateway: residentMb(gateway), engine: residentMb(engine) });
      if (monotonicMs() - shownAt > PROGRESS_MS) {
        shownAt = monotonicMs();
        const { gateway, engine } = samples.at(-1) ?? { gateway: NaN, engine: NaN };
        const memory = `gateway ${gateway.toFixed(0)} MB, engine ${engine.toFixed(0)} MB`;
        console.log(`${minutes().toFixed(1)} min: ${memory}; ${counts()}`);
      }
      await sleep(SAMPLE_MS);
    }
  };
  await Promise.all([watch(), ...Array.from({ length: clients }, client)]);

  const left = await liveAtRest({ url, gateway }, 50);
  const result = slopes();
  const text = ([part, value]: [string, number]) => `${part} ${value.toFixed(3)} MB/min`;
  console.log(
    `slopes after ${(WARM_UP_SHARE * length).toFixed(1)} min: ${Object.entries(result).map(text).join(', ')}`,
  );
  console.log(`${counts()}; ${left} still live`);
  const still = Object.values(result).every((value) => value <= LIMIT_MB_PER_MINUTE);
  return still && count.failed === 0 && left === 0 && count.answered > 0 ? 0 : 1;
}

/** Runs what the options ask for. @returns the exit code */
async function run(started: Server): Promise<number> {
  const server = soakServer(started);
  const { name, exits, architecture } = loadManifest(values.model);
  const layers = exits.map(({ layer }) => layer);
  const { vocab: vocabulary, context } = architecture;
  if (values.rejections !== undefined) return rejected(server, positive(values.rejections));
  if (values.attack !== undefined)
    return attacked(server, { url: server.url, key: ATTACKER, context, exit: layers[0] ?? 0, vocabulary });
  return soak(server, { name, exits: layers, vocabulary });
}

await runBench(async () => {
  const keys = [ATTACKER, ...Array.from({ length: CLIENTS }, (_, index) => honestKey(index))];
  const more = values.attack === undefined ? ['--max-queue', '32'] : ['--api-key', keys.join(',')];
  const options = ['--threads', String(values.threads), '--kv-memory', values.kvMemory, ...more];
  const server = await startSortie(values.model, options);
  try {
    process.exitCode = await run(server);
  } finally {
    const code = await server.stop();
    console.log(`the server exited with code ${code ?? 'unknown'}`);
    if (code !== 0) process.exitCode = 1;
  }
});
