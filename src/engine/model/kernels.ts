/** Chooses the kernels of a model folder for a device. */
import type { DeviceKind } from '../runtime/device.js';
import { capturedForms, GPU_KERNELS, type Manifest, type StageKernel, storedKernel } from './manifest.js';

/**
 * Without a list, all kernels of the folder. On CUDA also the captured form of each: calibration measures both, and the
 * faster one runs.
 * @throws Error if the folder lacks a kernel or does not fit the device
 */
export function chooseKernels(
  manifest: Pick<Manifest, 'kernels' | 'floatType' | 'pages' | 'architecture'>,
  { kernels, device }: { readonly kernels: readonly StageKernel[] | null; readonly device: DeviceKind },
): readonly StageKernel[] {
  const wanted = kernels ?? [...manifest.kernels, ...(device === 'cuda' ? capturedForms(manifest.kernels) : [])];
  const missing = wanted.filter((kernel) => !manifest.kernels.includes(storedKernel(kernel)));
  if (missing.length > 0) {
    const offered = [...manifest.kernels, ...(manifest.kernels.includes('w8a8') ? ['int8'] : [])];
    throw new Error(`--kernels: the model offers ${offered.join(', ')}, not ${missing.join(', ')}`);
  }
  if (device !== 'cpu' && manifest.pages === undefined)
    throw new Error(`--device ${device} needs a model converted with --kernels ${GPU_KERNELS.join(' or ')}`);
  if (device === 'webgpu') checkWebGpu(manifest.architecture);
  if (device === 'cpu' && manifest.floatType === 'f16')
    throw new Error(
      `--device cpu cannot run the ${wanted.join(', ')} kernel; convert with --kernels w8a8, int4 or fp32`,
    );
  return wanted;
}

/** Rejects attention that the WebGPU provider computes wrongly or not at all. */
function checkWebGpu({ softcap, pattern, context }: Manifest['architecture']): void {
  if (softcap !== null) throw new Error('--device webgpu has no bound of attention scores, which this model needs');
  const window = pattern.find(({ window: width }) => width !== null && width < context)?.window;
  if (window !== undefined)
    throw new Error(
      `--device webgpu has no attention windows, and this model has ${window} positions; convert with --context ${window}`,
    );
}
