/** `sortie simulate`: the router against a trace. */
import { Option, type Command } from 'commander';
import { BALANCES } from '../simulate/balance.js';
import { simulateDefaults, type SimulateOptions } from '../simulate/options.js';
import { LIMITS } from '../simulate/workload.js';
import { output } from './output.js';
import { factor, factors, fraction, positive, share } from './values.js';

type SimulateFlags = Pick<SimulateOptions, 'trace' | 'cost'> & Partial<SimulateOptions>;

/** Adds `simulate`. */
export function addSimulate(root: Command): void {
  root
    .command('simulate')
    .description('replay a trace against measured costs: attainment, depth, and replicas for a target')
    .requiredOption('--trace <file>', "the server's log, or a CSV in the format of the Azure LLM inference traces")
    .requiredOption('--cost <file>', 'JSON that `sortie calibrate` wrote')
    .option('--out <file>', 'write the report as JSON')
    .option('--plot <file>', 'write attainment and depth against load as SVG')
    .addOption(
      new Option('--speeds <list>', "arrival rates, as multiples of the trace's own")
        .argParser(factors)
        .default(simulateDefaults.speeds, simulateDefaults.speeds.join(',')),
    )
    .option('--length-scale <x>', 'factor on prompt and answer lengths', factor, simulateDefaults.lengthScale)
    .option('--limit <n>', 'most requests taken from the trace', positive, simulateDefaults.limit)
    .option('--slots <n>', 'sequences that run at a time', positive, simulateDefaults.slots)
    .option('--kv-positions <n>', 'positions of KV cache', positive, simulateDefaults.kvPositions)
    .option('--max-length <n>', 'positions of a sequence', positive, simulateDefaults.maxLength)
    .option(
      '--prefill-chunk <tokens>',
      'most prompt tokens between two decode steps, as in `serve`',
      positive,
      simulateDefaults.prefillChunk,
    )
    .option('--replicas <n>', 'servers behind a balancer', positive, simulateDefaults.replicas)
    .addOption(
      new Option('--balance <policy>', 'least_request, or orca: by load reports, as in deploy/envoy')
        .choices(BALANCES)
        .default(simulateDefaults.balance),
    )
    .option(
      '--lose <share>',
      'share of the servers that are lost halfway, as with a zone',
      fraction,
      simulateDefaults.lose,
    )
    .option('--target <share>', 'attainment that the replicas must reach', share, simulateDefaults.target)
    .option('--max-replicas <n>', 'most replicas to try', positive, simulateDefaults.maxReplicas)
    .option('--noise <share>', "relative noise of a step's time", fraction, simulateDefaults.noise)
    .option(
      '--slow-spells <s>',
      'mean seconds between slow spells, in which steps take twice as long; 0 for none',
      fraction,
      simulateDefaults.slowSpells,
    )
    .addOption(
      new Option(
        '--limits <kind>',
        "stated: the router gets each answer's exact length, which real clients do not state",
      )
        .choices(LIMITS)
        .default(simulateDefaults.limits),
    )
    .option(
      '--overhead-ms <ms>',
      'latency outside the engine, as the client sees it',
      fraction,
      simulateDefaults.overheadMs,
    )
    .option('--min-quality <share>', 'least quality of the exits of every request', share)
    .option('--seed <n>', 'seed of all random numbers', positive, simulateDefaults.seed)
    .action(async (options: SimulateFlags) => {
      const { simulateCommand } = await import('../simulate/command.js');
      await simulateCommand({ ...simulateDefaults, ...options }, (line) => {
        output().write(`${line}\n`);
      });
    });
}
