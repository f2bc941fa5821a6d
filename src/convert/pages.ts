/** Whether a folder's KV cache has pages. */
import type { Architecture } from '../model/architecture.js';
import { gpuKernel } from '../model/manifest.js';
import { ConvertError } from './errors.js';
import type { ConvertOptions } from './options.js';

/** Attention of GPUs reads a KV cache in pages. @throws ConvertError for a model that it can't compute */
export function hasPages({ kernels }: ConvertOptions, arch: Architecture): boolean {
  const kernel = gpuKernel(kernels);
  if (kernel === undefined) return false;
  if (arch.queryGrowth !== null)
    throw new ConvertError(
      'unsupported_architecture',
      `--kernels ${kernel} has no multiplier of queries that grows with the position, which this model needs`,
    );
  return true;
}
