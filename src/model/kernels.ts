/** Chooses the kernels of a model folder for a device. */
import { type Manifest, servedKernels, type StageKernel } from './manifest.js';

/** @throws Error if the folder lacks a kernel or does not fit the device */
export function chooseKernels(
  manifest: Pick<Manifest, 'kernels' | 'floatType'>,
  { kernels, device }: { readonly kernels: readonly StageKernel[] | null; readonly device: 'cpu' | 'cuda' },
): readonly StageKernel[] {
  const wanted = kernels ?? manifest.kernels;
  const offered = servedKernels(manifest.kernels);
  const missing = wanted.filter((kernel) => !offered.includes(kernel));
  if (missing.length > 0)
    throw new Error(`--kernels: the model offers ${offered.join(', ')}, not ${missing.join(', ')}`);
  if (device === 'cuda' && manifest.floatType !== 'f16')
    throw new Error('--device cuda needs a model converted with --kernels fp16');
  if (device === 'cpu' && manifest.floatType === 'f16')
    throw new Error('--device cpu cannot run the fp16 kernel; convert with --kernels w8a8, int4 or fp32');
  return wanted;
}
