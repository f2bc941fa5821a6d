/** The sides of bench:engine: engine processes, llama.cpp, and both behind their HTTP servers. */
import type { StageKernel } from '../../src/model/manifest.js';
import { benchOptions, engineRates } from '../engine-side.js';
import { eventLoopLagP99, httpRates } from '../http-side.js';
import { ATTENTION, better, peerRates } from '../peer-side.js';
import type { Rate, Scenario } from '../scenario.js';
import { startPeer, startSortie } from '../server.js';

export interface BenchSide {
  readonly name: string;
  readonly run: (scenarios: readonly Scenario[]) => Promise<Rate[]>;
}

const base = (path: string): string => path.replace(/\/+$/, '').split('/').at(-1) ?? path;

/** @param exit `full`, or the layer of an exit. @param kernels null for the folder's */
export function engineSide(
  dir: string,
  exit: string,
  threads: number,
  kernels: readonly StageKernel[] | null,
): BenchSide {
  return {
    name: ['sortie', base(dir), ...(kernels === null ? [] : [kernels.join('+')]), exit].join(' '),
    run: (scenarios) =>
      engineRates(benchOptions(dir, threads, { kernels }), exit === 'full' ? null : Number(exit), scenarios),
  };
}

/** @param peer a build of llama.cpp */
export function peerSide(peer: string, file: string, threads: number): BenchSide {
  return { name: `llama.cpp ${base(file)}`, run: (scenarios) => peerRates(peer, file, threads, scenarios) };
}

export function httpSide(model: string, threads: number): BenchSide {
  return {
    name: `http ${base(model)} full`,
    run: async (scenarios) => {
      const server = await startSortie(model, ['--threads', String(threads)]);
      try {
        const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
        const rates = await httpRates(server, data.at(-1)?.id ?? '', scenarios);
        process.stderr.write(`event-loop lag p99 ${(await eventLoopLagP99(server)).toFixed(1)} ms\n`);
        return rates;
      } finally {
        await server.stop();
      }
    },
  };
}

/** @param peer a build of llama.cpp */
export function httpPeerSide(peer: string, file: string, threads: number): BenchSide {
  return {
    name: `http llama-server ${base(file)}`,
    run: async (scenarios) => {
      const runs: Rate[][] = [];
      for (const attention of ATTENTION) {
        const server = await startPeer(peer, file, { threads, slots: 16, attention });
        try {
          runs.push(await httpRates(server, 'any', scenarios));
        } finally {
          await server.stop();
        }
      }
      return better(runs);
    },
  };
}
