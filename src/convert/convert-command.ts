/** `sortie convert` and `sortie inspect`: runs the conversion or the inspection and prints. */
import { convert } from './convert.js';
import { GENERATION_FIELDS } from './settings.js';
import { inspect, type Report } from './inspect.js';
import type { ConvertOptions } from './convert-options.js';
import { samplingWarning } from '../engine/model/common-sampling.js';
import type { Generation, Manifest } from '../engine/model/manifest.js';
import { interruptible } from '../util/interruption.js';
import { progressBar } from '../util/progress-bar.js';
import type { Progress } from './write-model.js';

/** Output of a command; isTTY decides between a bar and plain lines. */
export type Terminal = NodeJS.WritableStream & { isTTY?: boolean };

/**
 * Converts and shows progress. Throws ConvertError if the input is at fault, and Interrupted on a signal; the partial
 * output is removed first.
 */
export async function convertCommand(
  options: ConvertOptions,
  terminal: Terminal = process.stdout,
  errors: NodeJS.WritableStream = process.stderr,
): Promise<void> {
  const display = displayOf(terminal);
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
    for (const warning of [unknownExitsWarning(manifest), samplingWarning(manifest)])
      if (warning !== null) errors.write(`warning: ${warning}\n`);
  } finally {
    display.stop();
  }
}

/** Prints the content of a model folder. Throws an Error if a file is missing or damaged. */
export async function inspectCommand(dir: string, terminal: Terminal = process.stdout): Promise<void> {
  terminal.write(describe(dir, await inspect(dir)));
}

/**
 * The warning about unmeasured early exits. Loops are exits by training, an exit with a block was tuned, and an
 * exit may have a measured agreement. For any other exit the router assumes its share of the layers.
 * @returns null if every exit below full depth is known
 */
function unknownExitsWarning({ architecture, exits }: Pick<Manifest, 'architecture' | 'exits'>): string | null {
  if (architecture.loops !== undefined) return null;
  const unknown = exits.slice(0, -1).filter(({ block, quality }) => block === null && quality.agreement === undefined);
  if (unknown.length === 0) return null;
  const layers = unknown.map(({ layer }) => layer).join(', ');
  return (
    `exits without a block and without a measured agreement: ${layers}. Unless the model was tuned for them, answers from ` +
    'these exits make no sense, and the router still sends requests with a budget there. Measure the folder (npm run ' +
    'bench:quality) and convert again with --quality, or convert without --exits'
  );
}

/** A bar on a terminal. Elsewhere one line per kind of work, not per layer: logs stay readable. */
function displayOf(terminal: Terminal): { readonly progress: Progress; stop(): void } {
  const bar = terminal.isTTY === true ? progressBar('{bar} {percentage}% {what}', terminal) : null;
  let last = '';
  return {
    progress({ done, total, what }) {
      if (bar === null && what !== last)
        terminal.write(`${String(Math.floor((100 * done) / total)).padStart(3)}% ${what}\n`);
      if (last === '') bar?.start(total, done, { what });
      bar?.update(done, { what });
      last = what;
    },
    stop() {
      if (last !== '') bar?.stop();
      last = '';
    },
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
    ...promptsText(manifest),
    ...graphs,
    `files      ${manifest.files.length}, sizes and checksums match`,
    '',
  ].join('\n');
}

/** The layers of prompts, where they are not all. */
function promptsText({ exits }: Pick<Manifest, 'exits'>): string[] {
  const behind = exits.at(-1)?.block?.prompt;
  return behind === undefined ? [] : [`prompts    ${behind.exit} with keys and values for ${behind.layers} more`];
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
