/**
 * From engine options to a loaded model: kernels, device, and the slots and positions that the KV budget allows.
 *
 * Must not know: requests.
 */
import type { EngineOptions } from '../client/options.js';
import { loadManifest } from '../../model/manifest-io.js';
import type { KernelName, Manifest } from '../../model/manifest.js';
import { allocatedPerPosition, bytesPerPosition, StagedModel } from '../../model/staged-model.js';
import { loadCompressedWeights } from '../../model/weight-files.js';
import { chunkSizes } from '../../router/index.js';
import { cpuDevice } from '../../runtime/cpu.js';
import { cudaDevice } from '../../runtime/cuda.js';
import { createEnvironment } from '../../runtime/environment.js';

/** Slots for reusable prefixes beside the decoding ones. */
const PREFIX_SLOTS = 16;

/** @throws Error when the folder is not a model, lacks a kernel, or the KV budget holds no sequence */
export async function loadModel(options: EngineOptions): Promise<StagedModel> {
  const manifest = loadManifest(options.modelDir);
  const kernels = chooseKernels(manifest, options);
  const weights = await loadCompressedWeights(options.modelDir, manifest);
  const environment = createEnvironment(options.threads);
  const device = options.device === 'cuda' ? cudaDevice(environment) : cpuDevice(environment);
  const slots = options.maxRunning + (options.prefixReuse ? PREFIX_SLOTS : 0);
  // A device that commits memory immediately must fit every cache of every slot into the budget.
  const perPosition = device.lazy ? bytesPerPosition(manifest) : allocatedPerPosition(manifest) * slots;
  const capacity = Math.min(manifest.architecture.context, Math.floor(options.kvMemoryBytes / perPosition));
  if (capacity < 1)
    throw new Error(
      `--kv-memory: ${options.kvMemoryBytes} bytes are too few for a sequence; a position takes ${perPosition}`,
    );
  return new StagedModel(
    options.modelDir,
    manifest,
    environment,
    device,
    kernels,
    { slots, capacity, maxRows: slots, maxChunk: Math.max(...chunkSizes(options.prefillChunk)) },
    weights,
  );
}

function chooseKernels(manifest: Manifest, { kernels, device }: EngineOptions): readonly KernelName[] {
  const wanted = kernels ?? manifest.kernels;
  const missing = wanted.filter((kernel) => !manifest.kernels.includes(kernel));
  if (missing.length > 0)
    throw new Error(`--kernels: the model offers ${manifest.kernels.join(', ')}, not ${missing.join(', ')}`);
  if (device === 'cuda' && manifest.floatType !== 'f16')
    throw new Error('--device cuda needs a model converted with --kernels fp16');
  if (device === 'cpu' && manifest.floatType === 'f16')
    throw new Error('--device cpu cannot run the fp16 kernel; convert with --kernels w8a8, int4 or fp32');
  return wanted;
}
