/** `sortie convert` and `sortie inspect`: runs the conversion or the inspection and prints. */
import { SingleBar } from 'cli-progress';
import { convert, type Progress } from './convert.js';
import { GENERATION_FIELDS } from './generation.js';
import { inspect, type Report } from './inspect.js';
import type { ConvertOptions } from './options.js';
import { samplingWarning } from '../model/common-sampling.js';
import type { Generation } from '../model/manifest.js';
import { interruptible } from '../util/interruption.js';
import { unknownExitsWarning } from './unknown-exits.js';

/** Parsed options of `sortie convert`. */
export type ConvertCommandOptions = ConvertOptions;

export interface InspectCommandOptions {
  dir: string;
}

/** Output of a command; isTTY decides between a bar and plain lines. */
export type Terminal = NodeJS.WritableStream & { isTTY?: boolean };

/**
 * Converts and shows progress. Throws ConvertError if the input is at fault, and Interrupted on a signal; the partial
 * output is removed first.
 */
export async function convertCommand(
  options: ConvertCommandOptions,
  terminal: Terminal = process.stdout,
  errors: NodeJS.WritableStream = process.stderr,
): Promise<void> {
  const display = terminal.isTTY === true ? bar(terminal) : lines(terminal);
  try {
    const manifest = await interruptible('nothing was written', (signal) =>
      convert({ ...options, signal }, display.progress, (warning) => {
        terminal.write(`warning: ${warning}\n`);
      }),
    );
    display.stop();
    const size = manifest.files.reduce((total, file) => total + file.size, 0);
    terminal.write(
      `${options.out}: ${manifest.name}, kernels ${manifest.kernels.join(', ')}, ${megabytes(size)} in ${manifest.files.length} files\n`,
    );
    const unknown = unknownExitsWarning(manifest);
    if (unknown !== null) errors.write(`warning: ${unknown}\n`);
    const sampling = samplingWarning(manifest);
    if (sampling !== null) errors.write(`warning: ${sampling}\n`);
  } finally {
    display.stop();
  }
}

/** Prints the content of a model folder. Throws an Error if a file is missing or damaged. */
export async function inspectCommand(
  { dir }: InspectCommandOptions,
  terminal: Terminal = process.stdout,
): Promise<void> {
  terminal.write(describe(dir, await inspect(dir)));
}

interface Display {
  progress: Progress;
  stop(): void;
}

function bar(terminal: Terminal): Display {
  const progressBar = new SingleBar({
    format: '{bar} {percentage}% {what}',
    stream: terminal,
    hideCursor: true,
    barsize: 30,
  });
  let running = false;
  return {
    progress({ done, total, what }) {
      if (running) progressBar.update(done, { what });
      else progressBar.start(total, done, { what });
      running = true;
    },
    stop() {
      if (running) progressBar.stop();
      running = false;
    },
  };
}

/** Writes one line per kind of work, not per layer: logs stay readable. */
function lines(terminal: Terminal): Display {
  let last = '';
  return {
    progress({ done, total, what }) {
      if (what !== last) terminal.write(`${String(Math.floor((100 * done) / total)).padStart(3)}% ${what}\n`);
      last = what;
    },
    stop: () => undefined,
  };
}

/** The report as text, one fact per line. */
export function describe(dir: string, report: Report): string {
  const { manifest } = report;
  const a = manifest.architecture;
  const exits = manifest.exits.map(({ layer, block, norm, quality, dry }) => {
    const parts = [
      block ? `block of ${block.layers}` : 'no block',
      norm === 0 ? 'shared norm' : 'own norm',
      quality.kl === undefined ? null : `KL ${quality.kl}`,
      quality.agreement === undefined ? null : `agreement ${quality.agreement}`,
      dry === undefined ? null : `dry ${dry.multiplier},${dry.base},${dry.allowedLength}`,
    ];
    return `  exit ${String(layer).padStart(3)}  ${parts.filter((part) => part !== null).join(', ')}`;
  });
  const graphs = report.graphs.map(
    ({ file, tensors, bytes }) => `  ${file.padEnd(24)} ${String(tensors).padStart(4)} tensors  ${megabytes(bytes)}`,
  );
  return [
    `${dir}: ${manifest.name} (format ${manifest.format} ${manifest.version})`,
    `origin     ${manifest.origin}`,
    `licence    ${manifest.licence}`,
    `shape      ${a.layers} layers${a.loops ? ` in ${a.loops.count} loops` : ''}, hidden ${a.hidden}, ${a.heads} heads (${a.kvHeads} KV) of ${a.headDim}, FFN ${a.ffn}, vocabulary ${a.vocab} (${a.tiedHead ? 'tied' : 'untied'} head), context ${a.context}`,
    `kernels    ${manifest.kernels.join(', ')}; hidden states ${manifest.floatType}, KV cache ${manifest.kvType}`,
    `sampling   ${samplingText(manifest.generation ?? {})}`,
    `weights    ${report.tensors} tensors, ${megabytes(report.weightBytes)} in memory, ${megabytes(report.diskBytes)} on disk`,
    ...exits,
    ...graphs,
    `files      ${manifest.files.length}, sizes and checksums match`,
    '',
  ].join('\n');
}

/** Sampling defaults in the API's names. */
function samplingText(generation: Generation): string {
  const parts = Object.entries(GENERATION_FIELDS).flatMap(([name, field]) =>
    generation[field] === undefined ? [] : [`${name} ${generation[field]}`],
  );
  return parts.length === 0 ? 'no defaults' : parts.join(', ');
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
