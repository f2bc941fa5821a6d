/**
 * The command line: `sortie serve | chat | bench | convert | inspect | calibrate | simulate | openapi | completion`.
 *
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 128 plus the signal's number after an interrupt.
 */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import {
  helpText,
  modelName,
  OPTION_GROUPS,
  OptionError,
  packageRoot,
  SERVE_OPTIONS,
  type OptionSpec,
} from './config.js';
import { loadOptions } from './config-file.js';
import { completionScript, SHELLS, type Shell } from './completion.js';
import { ConvertError, Interrupted } from './convert/errors.js';
import { parseBudgets } from './load/budgets.js';
import { benchDefaults, type BenchOptions, DEFAULT_REQUESTS } from './load/options.js';
import type { KernelName } from './model/manifest.js';
import { simulateDefaults, type SimulateOptions } from './simulate/options.js';
import { LIMITS } from './simulate/workload.js';

/** Exit code of wrong usage, by the convention of Unix tools. */
const USAGE_ERROR = 2;

export const VERSION = (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string })
  .version;

/** Gives an option of another command the rule of the `serve` option with the same meaning. */
function ruleOf<T>({ kind }: Pick<OptionSpec<T>, 'kind'>): (value: string) => NonNullable<T> {
  return (value) => {
    const parsed = kind.parse(value);
    if (parsed != null) return parsed;
    throw new InvalidArgumentError(`must be ${kind.rule}`);
  };
}

function exits(value: string): number[] {
  const layers = value.split(',').map((item) => (/^[1-9]\d{0,3}$/.test(item.trim()) ? Number(item) : NaN));
  if (layers.some(Number.isNaN)) throw new InvalidArgumentError('must be layer numbers separated by commas');
  return layers;
}

function positive(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('must be a positive integer');
}

function positives(value: string): number[] {
  return value.split(',').map((item) => positive(item.trim()));
}

function fraction(value: string): number {
  if (/^\d{1,9}(\.\d{1,9})?$/.test(value)) return Number(value);
  throw new InvalidArgumentError('must be a number of at least 0');
}

function fractions(value: string): number[] {
  return value.split(',').map((item) => fraction(item.trim()));
}

function factor(value: string): number {
  const number = fraction(value);
  if (number > 0) return number;
  throw new InvalidArgumentError('must be a number above 0');
}

function factors(value: string): number[] {
  return value.split(',').map((item) => factor(item.trim()));
}

function share(value: string): number {
  const number = factor(value);
  if (number <= 1) return number;
  throw new InvalidArgumentError('must be a share, above 0 and at most 1');
}

/** A list of classes. @throws InvalidArgumentError with the rule */
function budgets(value: string): BenchOptions['budgets'] {
  try {
    return parseBudgets(value);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function jsonObject(value: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(value);
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  } catch {
    // The error below names the rule for any other text.
  }
  throw new InvalidArgumentError('must be a JSON object such as {"temperature": 0}');
}

function header(value: string, earlier: Readonly<Record<string, string>> = {}): Record<string, string> {
  const [, name, text] = /^([\w!#$%&'*+.^`|~-]+):\s*(\S.*)$/.exec(value) ?? [];
  if (name === undefined || text === undefined)
    throw new InvalidArgumentError('must be a header such as "Name: value"');
  return { ...earlier, [name]: text };
}

const apiKeyOption = (): Option =>
  new Option('--api-key <key>', 'API key of the server; the process list shows this flag').env('OPENAI_API_KEY');

function timeout(value: string): number {
  const seconds = factor(value);
  // Node.js itself ends a request after 300 s without a byte.
  if (seconds <= 300) return seconds;
  throw new InvalidArgumentError('must be a number of seconds above 0 and at most 300');
}

function optionOf(spec: OptionSpec<unknown>): Option {
  const isSwitch = spec.value === 'on|off';
  const flag = isSwitch ? `--${spec.flag} [${spec.value}]` : `--${spec.flag} <${spec.value}>`;
  const option = new Option(flag, helpText(spec));
  // They are shown in the help and by completion. config.ts checks them.
  if (spec.kind.values !== undefined) option.argChoices = [...spec.kind.values];
  // Commander reads a flag that starts with --no- as the negation of another option. These flags are options
  // themselves.
  option.negate = false;
  return option;
}

/**
 * A reader that closes the pipe early is no fault. The command then exits as other tools do: silently, with SIGPIPE's
 * number.
 */
function outputLost({ code, message }: NodeJS.ErrnoException): void {
  if (code !== 'EPIPE') complain(`error: cannot write the output: ${message}\n`);
  process.exit(code === 'EPIPE' ? 128 + constants.signals.SIGPIPE : 1);
}

/**
 * Standard output of commands that print. `serve` must not use it: its log has its own writer, which survives the loss
 * of its reader. Node.js would also make the pipe non-blocking.
 */
function output(): NodeJS.WriteStream {
  if (!process.stdout.listeners('error').includes(outputLost)) process.stdout.on('error', outputLost);
  return process.stdout;
}

const unheard = (): void => undefined;

/** Writes to standard error. If its reader is gone, the exit code alone reports the fault. */
function complain(text: string): void {
  if (!process.stderr.listeners('error').includes(unheard)) process.stderr.on('error', unheard);
  process.stderr.write(text);
}

/** Each command loads its modules when it runs, so `serve` does not load the converter. */
function program(finish: (code: number) => void): Command {
  const root = new Command('sortie')
    .description('LLM serving where depth is a dial: one sorted model, every depth, a latency budget per request')
    .version(VERSION)
    .configureOutput({ writeOut: (text) => output().write(text), writeErr: complain })
    .showHelpAfterError('(add --help for the options)');

  const serve = root.command('serve').description('serve a model folder with the API of OpenAI');
  // Commander passes these values on as text. config.ts holds the rules for flags and variables alike.
  for (const [title, specs] of Object.entries(OPTION_GROUPS)) {
    const group = Object.values(specs) as OptionSpec<unknown>[];
    for (const spec of group) serve.addOption(optionOf(spec).helpGroup(`${title}:`));
  }
  serve.action(async (flags: Record<string, string | true>) => {
    // A switch without a value means "on".
    const texts = Object.fromEntries(Object.entries(flags).map(([key, flag]) => [key, flag === true ? 'on' : flag]));
    const options = await loadOptions(texts, process.env);
    const { serveForever } = await import('./serve.js');
    finish(await serveForever(options, VERSION));
  });

  root
    .command('chat')
    .description('chat with a server in the terminal; through a pipe, each line is a question')
    .option('--url <url>', 'server with the API of OpenAI; a URL without a path gets /v1', 'http://localhost:8080')
    .option('--model <name>', "model to ask (default: the first of the server's list)")
    .addOption(apiKeyOption())
    .action(async ({ url, model, apiKey }: ChatFlags) => {
      const { chatCommand } = await import('./chat/command.js');
      const io = { input: process.stdin, output: output(), errors: process.stderr };
      if (!(await chatCommand({ url, model: model ?? null, apiKey: apiKey ?? null }, io))) finish(1);
    });

  root
    .command('bench <url>')
    .description('measure how many requests a server with the API of OpenAI answers within their deadlines')
    .option('--model <name>', "model to ask (default: the first of the server's list)")
    .addOption(apiKeyOption())
    .addOption(new Option('--api <kind>', 'endpoint').choices(['chat', 'completions']).default(benchDefaults.api))
    .addOption(
      new Option('--rates <list>', 'open load: requests per second, one run each')
        .argParser(factors)
        .default(benchDefaults.rates, benchDefaults.rates.join(',')),
    )
    .addOption(
      new Option('--arrivals <kind>', 'arrivals of open load')
        .choices(['poisson', 'bursts'])
        .default(benchDefaults.arrivals),
    )
    .option('--burst <n>', 'requests of a burst', positive, benchDefaults.burst)
    .addOption(
      new Option('--clients <list>', 'closed load instead: clients that never pause, one run each')
        .argParser(positives)
        .conflicts(['rates', 'arrivals', 'burst', 'speeds']),
    )
    .option('--requests <n>', `requests of a run (default: ${DEFAULT_REQUESTS}, or all of the trace)`, positive)
    .option('--questions <file>', 'one question a line, or a JSON array of {instruction, input} (default: built in)')
    .addOption(
      new Option(
        '--trace <file>',
        "arrivals: Sortie's log, or a CSV in the format of the Azure LLM inference traces",
      ).conflicts(['rates', 'arrivals', 'burst']),
    )
    .addOption(
      new Option('--speeds <list>', "arrival rates, as multiples of the trace's own, one run each")
        .argParser(factors)
        .default(benchDefaults.speeds, benchDefaults.speeds.join(',')),
    )
    .addOption(
      new Option('--lengths <kind>', 'trace: prompts of about, and answers of exactly the lengths of the trace')
        .choices(['natural', 'trace'])
        .default(benchDefaults.lengths),
    )
    .addOption(
      new Option('--budgets <list>', 'classes of deadlines, such as chat=ttft:300+tpot:50,page=2000,batch=none')
        .argParser(budgets)
        .default(
          benchDefaults.budgets,
          benchDefaults.budgets.map(({ name, budget }) => `${name}=${budget.totalMs}`).join(','),
        ),
    )
    .option('--send-budgets', "state budgets in Sortie's headers (default: if the server is Sortie)")
    .option('--no-send-budgets', 'never state budgets')
    .option('--max-tokens <n>', 'max_tokens of each request (default: none)', positive)
    .option('--body <json>', 'further fields of each request, such as {"temperature": 0}', jsonObject)
    .option('--header <text>', 'further header of each request, such as "Name: value"; repeatable', header)
    .option('--timeout <s>', 'seconds until the client cancels a request, at most 300', timeout, benchDefaults.timeout)
    .option('--seed <n>', 'seed of arrivals, questions and classes', positive, benchDefaults.seed)
    .option('--out <file>', 'write the results and all requests as JSON')
    .option('--plot <file>', 'write attainment against load, or the times of a single run, as SVG')
    .action(async (url: string, { header: headers = {}, ...options }: BenchFlags) => {
      const { benchCommand } = await import('./load/command.js');
      const stop = new AbortController();
      process.once('SIGINT', () => {
        stop.abort();
      });
      const io = {
        say: (line: string) => output().write(`${line}\n`),
        terminal: process.stderr.isTTY ? process.stderr : null,
        signal: stop.signal,
      };
      const { isInterrupted } = await benchCommand({ ...benchDefaults, ...options, headers, url }, io);
      if (isInterrupted) finish(128 + constants.signals.SIGINT);
    });

  root
    .command('convert <source>')
    .description('turn a GGUF file or a Hugging Face folder into a model folder')
    .requiredOption('--out <dir>', 'model folder to write')
    .option('--exits <layers>', 'trunk layers after which a sequence may leave, such as 10,20,30', exits)
    .option('--context <n>', "most positions of a sequence (default: the source's)", positive)
    .option('--kernels <list>', 'int4, w8a8, fp32, fp16; the preferred one first', ruleOf(SERVE_OPTIONS.kernels), [
      'w8a8',
    ])
    .option('--block <n>', 'weights per scale of int4: 16, 32, 64, 128 or 256 (default: 32)', positive)
    .option('--exit-blocks <file>', 'safetensors file of exit blocks')
    .option(
      '--calibration <file>',
      'safetensors file of measurements: smoothed w8a8 inputs, better int4 rounding, KV in bytes',
    )
    .addOption(
      new Option('--kv <type>', 'KV cache in float, or in int8: a quarter of the memory, slower prefill').choices([
        'int8',
        'float',
      ]),
    )
    .option('--head-bits <n>', 'bits used of the 8 of embedding and head, 5 to 8; fewer compress better', fraction)
    .option('--weight-bits <n>', 'the same for the weights of w8a8', fraction)
    .option('--quality <file>', 'JSON of measured quality per exit: {"15": {"kl": 1.1, "agreement": 0.6}}')
    .option(
      '--dry <rule>',
      'DRY penalty against loops at every exit: multiplier, base, allowed length, such as 8,2,3',
      fractions,
    )
    .option('--generation <list>', "sampling defaults, such as temperature=0.3,top_p=0.9; they win over the source's")
    .option('--name <name>', "name in the manifest (default: the folder's)", ruleOf({ kind: modelName }))
    .option('--compress', 'gzip the weight files', false)
    .option('--force', 'replace an existing model folder', false)
    .action(async (source: string, options: ConvertFlags) => {
      const { convertCommand } = await import('./convert/command.js');
      await convertCommand({ source, ...options }, output());
    });

  root
    .command('inspect <dir>')
    .description('print what a model folder holds and verify its checksums')
    .action(async (dir: string) => {
      const { inspectCommand } = await import('./convert/command.js');
      await inspectCommand({ dir }, output());
    });

  root
    .command('calibrate <dir>')
    .description('measure what a model folder costs on this machine, as JSON for simulate')
    .option('--threads <n>', 'compute threads', ruleOf(SERVE_OPTIONS.threads), SERVE_OPTIONS.threads.default)
    .action(async (dir: string, options: { readonly threads: number }) => {
      const { calibrateCommand } = await import('./engine/calibration/command.js');
      if (!process.stderr.isTTY) {
        output().write(await calibrateCommand(dir, options.threads));
        return;
      }
      const { progressBar } = await import('./util/progress-bar.js');
      const bar = progressBar('{what} {bar} {percentage}%', process.stderr);
      bar.start(1, 0, { what: '' });
      try {
        const costs = await calibrateCommand(dir, options.threads, (what, done, total) => {
          bar.setTotal(total);
          bar.update(done, { what });
        });
        bar.stop();
        output().write(costs);
      } finally {
        bar.stop();
      }
    });

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
    .option('--replicas <n>', 'servers behind a balancer by least connections', positive, simulateDefaults.replicas)
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
      const { simulateCommand } = await import('./simulate/command.js');
      await simulateCommand({ ...simulateDefaults, ...options }, (line) => {
        output().write(`${line}\n`);
      });
    });

  root
    .command('openapi')
    .description('print the OpenAPI document of this server')
    .action(async () => {
      const { openapiDocument } = await import('./http/openapi.js');
      output().write(await openapiDocument(VERSION));
    });

  root
    .command('completion')
    .description('print the completion script of a shell: source <(sortie completion bash)')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .action((shell: Shell) => {
      output().write(completionScript(root, shell));
    });

  for (const command of [root, ...root.commands]) command.exitOverride();
  return root;
}

interface ConvertFlags {
  readonly out: string;
  readonly exits?: number[];
  readonly context?: number;
  readonly kernels: readonly KernelName[];
  readonly block?: number;
  readonly exitBlocks?: string;
  readonly calibration?: string;
  readonly kv?: 'int8' | 'float';
  readonly headBits?: number;
  readonly weightBits?: number;
  readonly quality?: string;
  readonly dry?: readonly number[];
  readonly generation?: string;
  readonly name?: string;
  readonly compress: boolean;
  readonly force: boolean;
}

interface ChatFlags {
  readonly url: string;
  readonly model?: string;
  readonly apiKey?: string;
}

type BenchFlags = Partial<Omit<BenchOptions, 'url' | 'headers'>> & { readonly header?: BenchOptions['headers'] };

type SimulateFlags = Pick<SimulateOptions, 'trace' | 'cost'> & Partial<SimulateOptions>;

/** @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  let code = 0;
  const finish = (value: number): void => {
    code = value;
  };
  try {
    await program(finish).parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    // Commander prints its own errors. Help and version are not errors.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_ERROR;
    complain(`error: ${error instanceof Error ? error.message : String(error)}\n`);
    return exitCode(error);
  }
}

/** The exit code of the process for an error that a command threw. */
export function exitCode(error: unknown): number {
  if (error instanceof Interrupted) return 128 + constants.signals[error.signal];
  return error instanceof OptionError || (error instanceof ConvertError && error.isUsage) ? USAGE_ERROR : 1;
}
