/** The sides of bench:engine: engine processes, llama.cpp, both behind their HTTP servers, and servers that run. */
import type { EngineOptions } from '../../src/protocol/engine-options.js';
import type { PartMs } from '../../src/protocol/index.js';
import type { StageKernel } from '../../src/engine/model/manifest.js';
import { benchOptions, engineRates } from '../engine-side.js';
import { httpRates } from '../http-side.js';
import { ATTENTION, better, peerRates } from '../peer-side.js';
import type { Rate, Scenario } from '../scenario.js';
import { startPeer, startSortie, withServer } from '../server.js';

/** The processor of Sortie's sides. */
export type Machine = Required<Pick<EngineOptions, 'threads' | 'device' | 'deviceIndex'>>;

export interface BenchSide {
  readonly name: string;
  readonly run: (scenarios: readonly Scenario[]) => Promise<Rate[]>;
}

const base = (path: string): string => path.replace(/\/+$/, '').split('/').at(-1) ?? path;

/** The parts of a decode step, on the bench's standard error. */
function noted({ parallel, promptTokens }: Scenario, step: PartMs | null): void {
  const parts = Object.entries(step ?? {}).map(([part, ms]: [string, number]) => `${part} ${ms.toFixed(2)}`);
  process.stderr.write(`  ${parallel} x ${promptTokens}: ms of a decode step: ${parts.join(', ')}\n`);
}

/** @param exit `full`, or the layer of an exit. @param kernels null for the folder's */
export function engineSide(
  dir: string,
  exit: string,
  { threads, ...device }: Machine,
  kernels: readonly StageKernel[] | null,
): BenchSide {
  return {
    name: ['sortie', base(dir), ...(kernels === null ? [] : [kernels.join('+')]), exit].join(' '),
    run: (scenarios) =>
      engineRates(
        benchOptions(dir, threads, { ...device, kernels }),
        exit === 'full' ? null : Number(exit),
        scenarios,
        noted,
      ),
  };
}

/** @param peer a build of llama.cpp */
export function peerSide(peer: string, file: string, threads: number): BenchSide {
  return { name: `llama.cpp ${base(file)}`, run: (scenarios) => peerRates(peer, file, threads, scenarios) };
}

/** @param exit as above */
export function httpSide(model: string, exit: string, { threads, device, deviceIndex }: Machine): BenchSide {
  const options = ['--threads', String(threads), '--device', device === 'cpu' ? device : `${device}:${deviceIndex}`];
  return {
    name: `http ${base(model)} ${exit}`,
    run: (scenarios) =>
      withServer(startSortie(model, options), async (server) => {
        const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
        const id = exit === 'full' ? data.at(-1)?.id : `${data[0]?.id ?? ''}:${exit}`;
        return httpRates(server, id ?? '', scenarios);
      }),
  };
}

/** @param peer a build of llama.cpp */
export function httpPeerSide(peer: string, file: string, threads: number): BenchSide {
  return {
    name: `http llama-server ${base(file)}`,
    run: async (scenarios) => {
      const runs: Rate[][] = [];
      for (const attention of ATTENTION) {
        const peerServer = startPeer(peer, file, { threads, slots: 16, attention });
        runs.push(await withServer(peerServer, (server) => httpRates(server, 'any', scenarios)));
      }
      return better(runs);
    },
  };
}

/** An OpenAI-compatible server that runs, by its model's name. */
export function urlSide(url: string, model: string): BenchSide {
  return { name: `http ${url}`, run: (scenarios) => httpRates({ url }, model, scenarios) };
}
