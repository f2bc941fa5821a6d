/** `sortie bench`: measures a server over HTTP. */
import { constants } from 'node:os';
import { Option, type Command } from 'commander';
import { benchDefaults as initial, type BenchOptions, DEFAULT_REQUESTS } from '../../bench/loadgen/bench-options.js';
import { output } from './output.js';
import { budgets, choice, factors, header, jsonObject, option, positive, positives, timeout } from './values.js';

type BenchFlags = Partial<Omit<BenchOptions, 'url' | 'headers'>> & { readonly header?: BenchOptions['headers'] };

const BENCH_OPTIONS: readonly Option[] = [
  new Option('--model <name>', "model to ask (default: the first of the server's list)"),
  new Option('--api-key <key>', 'API key of the server; the process list shows this flag').env('OPENAI_API_KEY'),
  choice('--api <kind>', 'endpoint', ['chat', 'completions'], initial.api),
  option('--rates <list>', 'open load: requests per second, one run each', factors, initial.rates),
  choice('--arrivals <kind>', 'arrivals of open load; a burst has 8 requests', ['poisson', 'bursts'], initial.arrivals),
  new Option('--clients <list>', 'closed load instead: clients that never pause, one run each')
    .argParser(positives)
    .conflicts(['rates', 'arrivals', 'speeds']),
  option('--requests <n>', `requests of a run (default: ${DEFAULT_REQUESTS}, or all of the trace)`, positive),
  new Option('--questions <file>', 'one question a line, or a JSON array of {instruction, input} (default: built in)'),
  new Option(
    '--trace <file>',
    "arrivals: Sortie's log, or a CSV in the format of the Azure LLM inference traces",
  ).conflicts(['rates', 'arrivals']),
  option('--speeds <list>', "arrival rates, as multiples of the trace's own, one run each", factors, initial.speeds),
  choice(
    '--lengths <kind>',
    'trace: prompts of about, and answers of exactly the lengths of the trace',
    ['natural', 'trace'],
    initial.lengths,
  ),
  option(
    '--budgets <list>',
    'classes of deadlines, such as chat=ttft:300+tpot:50,page=2000,batch=none',
    budgets,
    initial.budgets,
    initial.budgets.map(({ name, budget }) => `${name}=${budget.totalMs}`).join(','),
  ),
  new Option('--send-budgets', "state budgets in Sortie's headers (default: if the server is Sortie)"),
  new Option('--no-send-budgets', 'never state budgets'),
  option('--max-tokens <n>', 'max_tokens of each request (default: none for Sortie, 512 for other servers)', positive),
  option('--body <json>', 'further fields of each request, such as {"temperature": 0}', jsonObject),
  option('--header <text>', 'further header of each request, such as "Name: value"; repeatable', header),
  option('--timeout <s>', 'seconds until the client cancels a request, at most 300', timeout, initial.timeout),
  option('--seed <n>', 'seed of arrivals, questions and classes', positive, initial.seed),
  new Option('--out <file>', 'write the results and all requests as JSON'),
  new Option('--plot <file>', 'write attainment against load, or the times of a single run, as SVG'),
];

/**
 * Adds `bench`.
 * @param finish takes the exit code, if it is not 0
 */
export function addBench(root: Command, finish: (code: number) => void): void {
  const bench = root
    .command('bench <url>')
    .description('measure how many requests a server with the API of OpenAI answers within their deadlines');
  for (const each of BENCH_OPTIONS) bench.addOption(each);
  bench.action(async (url: string, { header: headers = {}, ...options }: BenchFlags) => {
    const { benchCommand } = await import('../../bench/loadgen/bench-command.js');
    const stop = new AbortController();
    process.once('SIGINT', () => {
      stop.abort();
    });
    const io = {
      say: (line: string) => output().write(`${line}\n`),
      terminal: process.stderr.isTTY ? process.stderr : null,
      signal: stop.signal,
    };
    const { isInterrupted } = await benchCommand({ ...initial, ...options, headers, url }, io);
    if (isInterrupted) finish(128 + constants.signals.SIGINT);
  });
}
