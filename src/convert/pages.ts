/** Whether a folder's KV cache has pages. */
import type { Architecture } from '../model/architecture.js';
import { ConvertError } from './errors.js';
import type { ConvertOptions } from './options.js';

/** Positions of a page of the KV cache. */
const PAGE_POSITIONS = 64;

/** The fp16 kernel is for GPUs, whose attention reads a KV cache in pages. @returns null for slots */
export function pageOf({ kernels }: ConvertOptions, arch: Architecture): number | null {
  if (!kernels.includes('fp16')) return null;
  if (arch.queryGrowth !== null)
    throw new ConvertError(
      'unsupported_architecture',
      '--kernels fp16 has no multiplier of queries that grows with the position, which this model needs',
    );
  return PAGE_POSITIONS;
}
