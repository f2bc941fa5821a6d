/**
 * `npm run bench:engine`: tokens per second of the engine at several depths, of llama.cpp, and of both through HTTP.
 * Unlike most clients, each request states the exact length of its answer.
 *
 * Sides alternate within one run. Figures are medians, and ratios are ratios of medians. Compare figures only within
 * one run, and at equal bits per weight.
 */
import { writeFileSync } from 'node:fs';
import { type BenchSide, engineSide, type Machine, httpPeerSide, httpSide, peerSide, urlSide } from './engine/sides.js';
import { EMBEDDED, flag, number, optional, optionsOf, text, words } from './options.js';
import { type Rate, SCENARIOS } from './scenario.js';
import { tableOf } from './table.js';
import { device as deviceKind, servedKernelList } from '../src/cli/options/kinds.js';
import type { StageKernel } from '../src/engine/model/manifest.js';
import { median } from '../src/util/stats.js';

const options = optionsOf(
  'bench:engine',
  'tokens per second of the engine, its depths, llama.cpp and the HTTP server, side by side',
  {
    model: words('dir...', 'model folders, each a side of its own', [EMBEDDED]),
    kernels: words('list...', 'kernels of the engine, such as w8a8 or w8a8,int8, each list a side of its own', []),
    exits: text('layers', 'exits to measure, deepest first', 'full,15'),
    peer: optional('dir', 'a build of llama.cpp, to run its llama-batched-bench and llama-server as well'),
    peerModel: words('file...', 'GGUF files for the peer, each a side of its own', []),
    url: optional('url', 'an OpenAI-compatible server that runs, such as vLLM, as a further side'),
    urlModel: text('name', 'its model', 'x'),
    device: text('name', 'cpu, webgpu, cuda, or a card such as cuda:1', 'cpu'),
    rounds: number('rounds to take medians over', 5),
    threads: number('compute threads of every side', 2),
    noHttp: flag('skip the HTTP servers'),
    out: optional('file', 'write all figures as JSON'),
  },
);
const { threads, rounds } = options;
const device = deviceKind.parse(options.device);
if (!device) throw new Error(`--device must be ${deviceKind.rule}, got "${options.device}"`);
const machine: Machine = { threads, device: device.kind, deviceIndex: device.index };
const kernels = options.kernels.map((list): readonly StageKernel[] => {
  const parsed = servedKernelList.parse(list);
  if (parsed) return parsed;
  throw new Error(`--kernels must be ${servedKernelList.rule}, got "${list}"`);
});

function sides(): BenchSide[] {
  const { model: folders, peer = '', peerModel: files, noHttp, url, urlModel } = options;
  const exits = options.exits.split(',');
  const lists = kernels.length > 0 ? kernels : [null];
  return [
    ...folders.flatMap((dir) => lists.flatMap((list) => exits.map((exit) => engineSide(dir, exit, machine, list)))),
    ...files.map((file) => peerSide(peer, file, threads)),
    ...(noHttp
      ? []
      : [
          ...exits.map((exit) => httpSide(folders[0] ?? EMBEDDED, exit, machine)),
          ...files.map((file) => httpPeerSide(peer, file, threads)),
        ]),
    ...(url === undefined ? [] : [urlSide(url, urlModel)]),
  ];
}

/** Runs all sides in turn, round by round. @returns medians over the rounds */
async function measure(all: readonly BenchSide[]): Promise<{ name: string; rates: Rate[] }[]> {
  const measured = all.map(({ name, run }) => ({ name, run, rounds: [] as Rate[][] }));
  for (let round = 1; round <= rounds; round++)
    for (const side of measured) {
      const rates = await side.run(SCENARIOS);
      side.rounds.push(rates);
      const line = rates.map(({ prefill, decode }) => `${prefill.toFixed(0)}/${decode.toFixed(0)}`).join('  ');
      process.stderr.write(`round ${round}/${rounds} ${side.name}: ${line}\n`);
    }
  return measured.map(({ name, rounds }) => {
    const at = (scenario: number, kind: keyof Rate): number =>
      median(rounds.map((rates) => rates[scenario]?.[kind] ?? NaN));
    return { name, rates: SCENARIOS.map((_, i) => ({ prefill: at(i, 'prefill'), decode: at(i, 'decode') })) };
  });
}

const medians = await measure(sides());
const [reference] = medians;
const heads = SCENARIOS.flatMap(({ parallel, promptTokens }) => [
  `prefill ${parallel}x${promptTokens}`,
  `decode x${parallel}`,
]);
const ratio = (all: number | undefined, own: number): string =>
  `${own.toFixed(0)} (${((all ?? NaN) / own).toFixed(2)})`;
const rows = medians.map(({ name, rates }) => [
  name,
  ...rates.flatMap(({ prefill, decode }, index) => {
    const first = reference?.rates[index];
    return [ratio(first?.prefill, prefill), ratio(first?.decode, decode)];
  }),
]);
for (const line of tableOf([['tokens per second, medians (ratio of the first side to this one)', ...heads], ...rows]))
  console.log(line);
if (options.out !== undefined)
  writeFileSync(options.out, `${JSON.stringify({ scenarios: SCENARIOS, medians }, null, 2)}\n`);
