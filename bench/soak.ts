/**
 * Mixed load on the real server, to find memory leaks in minutes. Requests carry only the information of a client.
 *
 *   npm run soak -- [--minutes 20] [--clients 12] [--kv-memory 96MiB] [--model DIR] [--threads 2] [--seed 1]
 *
 * Clients send requests with random depths, budgets and streams; some disconnect, and some requests are wrong. Prints
 * progress and the resident memory of gateway and engine, then their slopes by least squares after the warm-up. The
 * warm-up is the first quarter, in which caches fill and heaps grow. The KV budget is small, so that it is full before
 * the warm-up ends. Exit code 1 for a slope above 1 MB per minute, an unexpected end of a request, or a request that
 * still runs at the end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { monotonicMs } from '../src/util/clock.js';
import { loadManifest } from '../src/model/manifest-io.js';
import { seeded } from '../src/util/random.js';
import { EMBEDDED, positive, runBench } from './options.js';
import { type Server, startSortie } from './server.js';
import { ENDS, send } from './soak/client.js';
import { childrenOf, residentMb, slope } from './soak/memory.js';
import { nextRequest } from './soak/mix.js';

const LIMIT_MB_PER_MINUTE = 1;
const WARM_UP_SHARE = 0.25;
const SAMPLE_MS = 2000;
const PROGRESS_MS = 30_000;
/** Most failures that are printed. */
const FAILURES_SHOWN = 20;

const values = new Command('soak')
  .description('mixed load: is memory stable, and does every request end as expected?')
  .option('--minutes <n>', 'duration', '20')
  .option('--clients <n>', 'concurrent requests', '12')
  .option('--kv-memory <size>', 'KV budget of the server', '96MiB')
  .option('--model <dir>', 'model folder', EMBEDDED)
  .option('--threads <n>', 'threads of the engine', '2')
  .option('--seed <n>', 'seed of the requests', '1')
  .parse()
  .opts<Record<'minutes' | 'clients' | 'kvMemory' | 'model' | 'threads' | 'seed', string>>();

/** Running and waiting sequences, by the server's metrics. */
async function live(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const of = (name: string): number => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1]);
  return of('sortie_num_requests_running') + of('sortie_num_requests_waiting');
}

/** @returns the exit code */
async function soak({ url, pid: gateway }: Server): Promise<number> {
  const { name, exits, architecture } = loadManifest(values.model);
  const served = { name, exits: exits.map(({ layer }) => layer), vocabulary: architecture.vocab };
  const [engine] = childrenOf(gateway);
  if (engine === undefined) throw new Error('no engine process');
  const startedAt = monotonicMs();
  const minutes = (): number => (monotonicMs() - startedAt) / 60_000;
  const length = positive('--minutes', values.minutes);
  const random = seeded(positive('--seed', values.seed));
  const count = Object.fromEntries(ENDS.map((end) => [end, 0])) as Record<(typeof ENDS)[number], number>;
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
        console.log(
          `${minutes().toFixed(1)} min: gateway ${gateway.toFixed(0)} MB, engine ${engine.toFixed(0)} MB; ` +
            ENDS.map((end) => `${count[end]} ${end}`).join(', '),
        );
      }
      await sleep(SAMPLE_MS);
    }
  };
  await Promise.all([watch(), ...Array.from({ length: positive('--clients', values.clients) }, client)]);

  for (let tries = 0; tries < 50 && (await live(url)) > 0; tries++) await sleep(200);
  const left = await live(url);
  const result = slopes();
  const text = ([part, value]: [string, number]) => `${part} ${value.toFixed(3)} MB/min`;
  console.log(
    `slopes after ${(WARM_UP_SHARE * length).toFixed(1)} min: ${Object.entries(result).map(text).join(', ')}`,
  );
  console.log(`${ENDS.map((end) => `${count[end]} ${end}`).join(', ')}; ${left} still live`);
  const still = Object.values(result).every((value) => value <= LIMIT_MB_PER_MINUTE);
  return still && count.failed === 0 && left === 0 && count.answered > 0 ? 0 : 1;
}

await runBench(async () => {
  const options = ['--threads', values.threads, '--kv-memory', values.kvMemory, '--max-queue', '32'];
  const server = await startSortie(values.model, options);
  try {
    process.exitCode = await soak(server);
  } finally {
    const code = await server.stop();
    console.log(`the server exited with code ${code ?? 'unknown'}`);
    if (code !== 0) process.exitCode = 1;
  }
});
