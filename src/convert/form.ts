/** The forms of tensors in a folder: floats, KV cache, embedding and head. */
import type { Architecture } from '../engine/model/architecture.js';
import { gpuKernel } from '../engine/model/manifest.js';
import type { Calibration } from './calibration.js';
import { ConvertError, UsageError } from './conversion-error.js';
import { blockLayerName, type ExitBlocks, trunkName } from './exit-blocks.js';
import type { VocabularyFormat } from './graphs/embed-head.js';
import type { StageOptions } from './graphs/layer.js';
import { type ConvertOptions, hasBlocks } from './convert-options.js';

export type StageForm = Pick<StageOptions, 'floatType' | 'kvType' | 'isPaged'>;

/** The form of all stages. @throws ConvertError for a model or a calibration that does not fit the options */
export function stageForm(
  options: ConvertOptions,
  calibration: Calibration,
  arch: Architecture,
  blocks: ExitBlocks,
): StageForm {
  const floatType = gpuKernel(options.kernels) === undefined ? 'f32' : 'f16';
  const isPaged = hasPages(options, arch);
  return { floatType, kvType: hasInt8Kv(options, calibration, arch, blocks) ? 'i8' : floatType, isPaged };
}

/** Attention of GPUs reads a KV cache in pages. @throws ConvertError for a model that it can't compute */
function hasPages({ kernels }: ConvertOptions, arch: Architecture): boolean {
  const kernel = gpuKernel(kernels);
  if (kernel === undefined) return false;
  if (arch.queryGrowth !== null)
    throw new ConvertError(
      `--kernels ${kernel} has no multiplier of queries that grows with the position, which this model needs`,
    );
  return true;
}

/**
 * Whether the KV cache holds int8 values. They take a quarter of the memory, and attention then rounds alike for one
 * position and for many. Prefill is 2 to 3 times slower: ONNX Runtime's CPU kernel reads int8 keys row by row.
 */
function hasInt8Kv(
  { kv, kernels, calibration: file }: ConvertOptions,
  calibration: Calibration,
  arch: Architecture,
  blocks: ExitBlocks,
): boolean {
  if (kv !== 'int8') return false;
  const gpu = gpuKernel(kernels);
  if (gpu !== undefined) throw new UsageError(`--kv int8 can't be combined with --kernels ${gpu}`);
  const names = Array.from({ length: arch.layers }, (_, i) => trunkName(i));
  for (const [exit, depth] of blocks.depths) for (let i = 0; i < depth; i++) names.push(blockLayerName(exit, i));
  const missing = names.find((name) => calibration.layer(name).kvRange(arch.kvHeads * arch.headDim) === null);
  if (missing !== undefined)
    throw new UsageError(
      `--kv int8 needs a --calibration file that holds k_max and v_max of each layer, got ${file === undefined ? 'none' : `${file} without those of ${missing}`}`,
    );
  return true;
}

/**
 * w8a8's format if w8a8 is among the kernels (fastest for many rows); blocks beside weights in blocks; otherwise
 * floats.
 */
export function vocabularyFormat({ kernels }: ConvertOptions, arch: Architecture): VocabularyFormat {
  if (kernels.includes('w8a8')) return { kind: 'w8a8' };
  return hasBlocks(kernels)
    ? { kind: 'blocks', block: headBlock(arch.hidden, gpuKernel(kernels) !== undefined) }
    : { kind: 'floats' };
}

/**
 * Columns per scale: 64 if that divides the width, which saves padding and its removal; else 32, else 128. CUDA's
 * product that unpacks weights on the way takes 32.
 */
function headBlock(hidden: number, forGpu: boolean): number {
  return (forGpu ? [32] : [64, 32]).find((block) => hidden % block === 0) ?? 128;
}
