/**
 * `npm run bench:engine`: tokens per second of the engine at several depths, of llama.cpp, and of both through HTTP.
 * Unlike most clients, each request states the exact length of its answer.
 *
 * Sides alternate within one run. Figures are medians, and ratios are ratios of medians. Compare figures only within
 * one run, and at equal bits per weight.
 */
import { writeFileSync } from 'node:fs';
import { device as deviceKind, servedKernelList } from '../src/cli/options/kinds.js';
import { median } from './loadgen/stats.js';
import { type BenchSide, engineSide, httpPeerSide, httpSide, type Machine, peerSide, urlSide } from './engine/sides.js';
import { type Rate, SCENARIOS } from './engine/scenario.js';
import { EMBEDDED, flag, number, optional, optionsOf, runBench, text, words } from './options.js';
import { tableOf } from './table.js';

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
    device: text('name', deviceKind.rule, 'cpu'),
    rounds: number('rounds to take medians over', 5),
    threads: number('compute threads of every side', 2),
    noHttp: flag('skip the HTTP servers'),
    out: optional('file', 'write all figures as JSON'),
  },
);

/** A value by the rule of an option of `serve`. @throws Error that names the rule */
function parsed<T>(name: string, kind: { readonly rule: string; parse(text: string): T | undefined }, text: string): T {
  const value = kind.parse(text);
  if (value !== undefined) return value;
  throw new Error(`--${name} must be ${kind.rule}, got "${text}"`);
}

function sides(): BenchSide[] {
  const { model: folders, peer = '', peerModel: files, noHttp, url, urlModel, threads } = options;
  const exits = options.exits.split(',');
  const { kind, index } = parsed('device', deviceKind, options.device);
  const machine: Machine = { threads, device: kind, deviceIndex: index };
  const lists = options.kernels.map((list) => parsed('kernels', servedKernelList, list));
  return [
    ...folders.flatMap((dir) =>
      (lists.length > 0 ? lists : [null]).flatMap((list) => exits.map((exit) => engineSide(dir, exit, machine, list))),
    ),
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
  const { rounds } = options;
  const measured = all.map(({ name, run }) => ({ name, run, rounds: [] as Rate[][] }));
  for (let round = 1; round <= rounds; round++)
    for (const side of measured) {
      const rates = await side.run();
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

await runBench(async () => {
  const medians = await measure(sides());
  const [reference] = medians;
  const heads = SCENARIOS.flatMap(({ parallel, promptTokens }) => [
    `prefill ${parallel}x${promptTokens}`,
    `decode x${parallel}`,
  ]);
  const ratio = (first: number | undefined, own: number): string =>
    `${own.toFixed(0)} (${((first ?? NaN) / own).toFixed(2)})`;
  const rows = medians.map(({ name, rates }) => [
    name,
    ...rates.flatMap(({ prefill, decode }, index) => {
      const first = reference?.rates[index];
      return [ratio(first?.prefill, prefill), ratio(first?.decode, decode)];
    }),
  ]);
  const head = ['tokens per second, medians (ratio of the first side to this one)', ...heads];
  console.log(tableOf([head, ...rows]).join('\n'));
  if (options.out !== undefined)
    writeFileSync(options.out, `${JSON.stringify({ scenarios: SCENARIOS, medians }, null, 2)}\n`);
});
