/** Whether a folder's KV cache has pages. */
import type { Architecture } from '../model/architecture.js';
import { gpuKernel } from '../model/manifest.js';
import { ConvertError } from './errors.js';
import type { ConvertOptions } from './options.js';

/** Positions of a page of the KV cache. */
const PAGE_POSITIONS = 64;

/** Attention of GPUs reads a KV cache in pages. @returns null for slots */
export function pageOf({ kernels }: ConvertOptions, arch: Architecture): number | null {
  const kernel = gpuKernel(kernels);
  if (kernel === undefined) return null;
  if (arch.queryGrowth !== null)
    throw new ConvertError(
      'unsupported_architecture',
      `--kernels ${kernel} has no multiplier of queries that grows with the position, which this model needs`,
    );
  return PAGE_POSITIONS;
}
