/** Options of a conversion, the rules that need no source model, and the forms of weights that follow. */
import path from 'node:path';
import { modelName } from '../cli/options/config.js';
import type { Architecture } from '../engine/model/architecture.js';
import { gpuKernel, type KernelName } from '../engine/model/manifest.js';
import type { Calibration } from './calibration.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { blockLayerName, type ExitBlocks, trunkName } from './exits.js';
import type { VocabularyFormat } from './graphs/embed-head.js';
import type { StageOptions } from './graphs/layer.js';

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
  /** safetensors file of exit blocks; see exits.ts. */
  exitBlocks?: string;
  /** safetensors file of second moments (smoothing, GPTQ) and of ranges of keys and values; see calibration.ts. */
  calibration?: string;
  /** Elements of the KV cache; int8 needs the ranges of a calibration. Default: float. */
  kv?: 'float' | 'int8';
  /** JSON file of measured quality per exit, copied to the manifest; see settings.ts. */
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
  const { kernels, weightBits, calibration, kv } = options;
  const listed = kernels.join(',');
  const has = (...names: KernelName[]): boolean => names.some((name) => kernels.includes(name));
  const rule = (isKept: boolean, text: string): void => {
    if (!isKept) throw new UsageError(text);
  };
  const gpu = gpuKernel(kernels);
  rule(kernels.length > 0, '--kernels must name at least one kernel');
  rule(new Set(kernels).size === kernels.length, `--kernels must name each kernel once, got ${listed}`);
  rule(
    gpu === undefined || kernels.length === 1,
    `--kernels ${gpu} can't be combined with other kernels, got ${listed}`,
  );
  rule(kv !== 'int8' || gpu === undefined, `--kv int8 can't be combined with --kernels ${gpu}`);
  const bits = weightBits ?? 8;
  rule(bits >= 5 && bits <= 8, `--weight-bits must be a number from 5 to 8, got ${bits}`);
  // An option without effect is a mistake.
  rule(
    weightBits === undefined || has('w8a8', 'w8a16'),
    `--weight-bits has an effect only with --kernels w8a8 or w8a16, got --weight-bits ${bits} with --kernels ${listed}`,
  );
  rule(
    calibration === undefined || has('w8a8', 'int4', 'w4a16') || kv === 'int8',
    `--calibration has an effect only with --kernels w8a8, int4 or w4a16, or --kv int8, got --calibration ${calibration} with --kernels ${listed}`,
  );
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

export type StageForm = Pick<StageOptions, 'floatType' | 'kvType' | 'isPaged'>;

/**
 * The form of all stages. Attention of GPUs reads a KV cache in pages. Int8 values of a KV cache take a quarter of the
 * memory, and attention then rounds alike for one position and for many. Prefill is 2 to 3 times slower: ONNX Runtime's
 * CPU kernel reads int8 keys row by row.
 * @throws ConvertError for a model or a calibration that does not fit the options
 */
export function stageForm(
  { kernels, kv, calibration: file }: ConvertOptions,
  calibration: Calibration,
  arch: Architecture,
  { depths }: ExitBlocks,
): StageForm {
  const gpu = gpuKernel(kernels);
  if (gpu !== undefined && arch.queryGrowth !== null)
    throw new ConvertError(
      `--kernels ${gpu} has no multiplier of queries that grows with the position, which this model needs`,
    );
  if (gpu !== undefined) return { floatType: 'f16', kvType: 'f16', isPaged: true };
  if (kv !== 'int8') return { floatType: 'f32', kvType: 'f32', isPaged: false };
  const names = Array.from({ length: arch.layers }, (_, i) => trunkName(i));
  for (const [exit, depth] of depths) for (let i = 0; i < depth; i++) names.push(blockLayerName(exit, i));
  const missing = names.find((name) => calibration.layer(name).kvRange(arch.kvHeads * arch.headDim) === null);
  if (missing === undefined) return { floatType: 'f32', kvType: 'i8', isPaged: false };
  const got = file === undefined ? 'none' : `${file} without those of ${missing}`;
  throw new UsageError(`--kv int8 needs a --calibration file that holds k_max and v_max of each layer, got ${got}`);
}

/**
 * w8a8's format if w8a8 is among the kernels (fastest for many rows); blocks beside weights in blocks; otherwise
 * floats. A block has 64 columns if that divides the width, which saves padding and its removal; else 32, else 128.
 * CUDA's product that unpacks weights on the way takes 32.
 */
export function vocabularyFormat({ kernels }: ConvertOptions, { hidden }: Architecture): VocabularyFormat {
  if (kernels.includes('w8a8')) return { kind: 'w8a8' };
  if (!kernels.some((kernel) => ['int4', 'w8a16', 'w4a16'].includes(kernel))) return { kind: 'floats' };
  const sizes = gpuKernel(kernels) === undefined ? [64, 32] : [32];
  return { kind: 'blocks', block: sizes.find((block) => hidden % block === 0) ?? 128 };
}
