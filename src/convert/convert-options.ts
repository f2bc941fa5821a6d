/** Options of a conversion, and the rules that need no source model. */
import path from 'node:path';
import { isValid } from '../util/schema.js';
import { modelName } from '../cli/options/config.js';
import { Dry, gpuKernel, type KernelName } from '../engine/model/manifest.js';
import { UsageError } from './conversion-error.js';

export interface ConvertOptions {
  /** GGUF file or Hugging Face folder. */
  source: string;
  out: string;
  /** Trunk layers after which a sequence may exit. Default: the exits that the source declares, or full depth. */
  exits?: number[];
  /** Most positions of a sequence, at most the source's. Default: the source's. */
  context?: number;
  /** Preferred first. A kernel for GPUs stands alone: its KV cache has pages. */
  kernels: readonly KernelName[];
  /** safetensors file of exit blocks; see exit-blocks.ts. */
  exitBlocks?: string;
  /** safetensors file of second moments (smoothing, GPTQ) and of ranges of keys and values; see calibration.ts. */
  calibration?: string;
  /** Elements of the KV cache; int8 needs the ranges of a calibration. Default: float. */
  kv?: 'float' | 'int8';
  /** JSON file of measured quality per exit, copied to the manifest; see quality.ts. */
  quality?: string;
  /** DRY rule against loops at every exit: multiplier, base, allowed length. */
  dry?: readonly number[];
  /** Sampling defaults, such as `temperature=0.3,top_p=0.9`; they win over the source's. */
  generation?: string;
  /**
   * Bits of information in each byte of w8a8 and w8a16 weights, 5 to 8; fewer bits compress better. A fraction is
   * allowed: 6.8 bits are 2^6.8 levels. Default: 8.
   */
  weightBits?: number;
  /** gzip the weight files. */
  compress: boolean;
  /** Replace an existing model folder. */
  force: boolean;
  /** Name in the manifest. Default: the name of the output folder. */
  name?: string;
  /** Where the source comes from, for the manifest. Default: what the source itself says. */
  origin?: string;
  /** Stops the conversion, which then throws the abort reason and leaves no output. */
  signal?: AbortSignal;
}

/** Throws UsageError with the option, the rule and the value. */
export function checkOptions(options: ConvertOptions): void {
  checkKernels(options);
  checkUsed(options);
  nameOf(options);
}

/**
 * The model name that requests use: `name`, or the name of the output folder.
 * @throws UsageError if the folder's name is not a valid model name
 */
export function nameOf({ name, out }: ConvertOptions): string {
  const own = name ?? path.basename(path.resolve(out));
  if (modelName.parse(own) !== undefined) return own;
  const got = name === undefined ? `none, and the folder's name ${own} does not match` : own;
  throw new UsageError(`--name must be ${modelName.rule}, got ${got}`);
}

/** Whether embedding and head have a scale for each block, as the stages' weights do. */
export function hasBlocks(kernels: readonly KernelName[]): boolean {
  return kernels.some((kernel) => kernel === 'int4' || kernel === 'w8a16' || kernel === 'w4a16');
}

/** Rejects an option without effect. */
function checkUsed({ kernels, weightBits, calibration, kv }: ConvertOptions): void {
  const bytes = kernels.includes('w8a8') || kernels.includes('w8a16');
  const calibrated = ['w8a8', 'int4', 'w4a16'].some((kernel) => kernels.some((each) => each === kernel));
  for (const [option, value, isUsed, rule] of [
    ['--weight-bits', weightBits, bytes, '--kernels w8a8 or w8a16'],
    ['--calibration', calibration, calibrated || kv === 'int8', '--kernels w8a8, int4 or w4a16, or --kv int8'],
  ] as const)
    if (value !== undefined && !isUsed)
      throw new UsageError(
        `${option} has an effect only with ${rule}, got ${option} ${value} with --kernels ${kernels.join(',')}`,
      );
}

function checkKernels({ kernels, weightBits = 8 }: ConvertOptions): void {
  if (kernels.length === 0) throw new UsageError('--kernels must name at least one kernel');
  if (new Set(kernels).size !== kernels.length)
    throw new UsageError(`--kernels must name each kernel once, got ${kernels.join(',')}`);
  const gpu = gpuKernel(kernels);
  if (gpu !== undefined && kernels.length > 1)
    throw new UsageError(`--kernels ${gpu} can't be combined with other kernels, got ${kernels.join(',')}`);
  if (!(weightBits >= 5 && weightBits <= 8))
    throw new UsageError(`--weight-bits must be a number from 5 to 8, got ${weightBits}`);
}

/** The manifest's rule against loops. @throws UsageError if the rule is invalid */
export function dryRule({ dry }: ConvertOptions): Dry | undefined {
  if (dry === undefined) return undefined;
  const [multiplier, base, allowedLength] = dry;
  const rule = { multiplier, base, allowedLength };
  if (dry.length === 3 && isValid(Dry, rule)) return rule;
  throw new UsageError(
    `--dry must be a multiplier from 0 to 100, a base from 1 to 10 and an allowed length from 1 to 64, got ${dry.join(',')}`,
  );
}
