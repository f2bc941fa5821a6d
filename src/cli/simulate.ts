/** `sortie simulate`: the scheduler against a trace. */
import { Option, type Command } from 'commander';
import { SERVE_OPTIONS } from './options/config.js';
import { simulateDefaults as initial, type SimulateOptions } from '../../test/simulator/simulate-options.js';
import { LIMITS } from '../../test/simulator/workload.js';
import { output } from './output.js';
import { choice, factor, factors, fraction, option, positive, servedOption, share } from './values.js';

type SimulateFlags = Pick<SimulateOptions, 'trace' | 'cost'> & Partial<SimulateOptions>;

const OPTIONS: readonly Option[] = [
  new Option('--out <file>', 'write the report as JSON'),
  new Option('--plot <file>', 'write attainment and depth against load as SVG'),
  option('--speeds <list>', "arrival rates, as multiples of the trace's own", factors, initial.speeds),
  option('--length-scale <x>', 'factor on prompt and answer lengths', factor, initial.lengthScale),
  option('--limit <n>', 'most requests taken from the trace', positive, initial.limit),
  option('--slots <n>', 'sequences that run at a time', positive, initial.slots),
  option('--kv-positions <n>', 'positions of KV cache', positive, initial.kvPositions),
  option('--max-length <n>', 'positions of a sequence', positive, initial.maxLength),
  servedOption(SERVE_OPTIONS.prefillChunk),
  option('--noise <share>', "relative noise of a step's time", fraction, initial.noise),
  option(
    '--slow-spells <s>',
    'mean seconds between slow spells, in which steps take twice as long; 0 for none',
    fraction,
    initial.slowSpells,
  ),
  choice(
    '--limits <kind>',
    "stated: the scheduler gets each answer's exact length, which real clients do not state",
    LIMITS,
    initial.limits,
  ),
  option('--overhead-ms <ms>', 'latency outside the engine, as the client sees it', fraction, initial.overheadMs),
  option('--min-quality <share>', 'least quality of the exits of every request', share),
  option('--seed <n>', 'seed of all random numbers', positive, initial.seed),
];

/** Adds `simulate`. */
export function addSimulate(root: Command): void {
  const simulate = root
    .command('simulate')
    .description('replay a trace against measured costs: attainment and depth at several loads')
    .requiredOption('--trace <file>', "the server's log, or a CSV in the format of the Azure LLM inference traces")
    .requiredOption('--cost <file>', 'JSON that `sortie calibrate` wrote');
  for (const each of OPTIONS) simulate.addOption(each);
  simulate.action(async (options: SimulateFlags) => {
    const { simulateCommand } = await import('../../test/simulator/simulate-command.js');
    await simulateCommand({ ...initial, ...options }, (line) => {
      output().write(`${line}\n`);
    });
  });
}
