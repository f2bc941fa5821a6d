/**
 * From engine options to a loaded model: kernels, device, and the slots and positions that the KV budget allows.
 *
 * Must not know: requests.
 */
import type { EngineOptions } from '../client/options.js';
import { loadManifest } from '../../model/manifest-io.js';
import { chooseKernels } from '../../model/kernels.js';
import { allocatedPerPosition, bytesPerPosition, graphCount, StagedModel } from '../../model/staged-model.js';
import { compressedFiles, loadCompressedWeights } from '../../model/weight-files.js';
import { chunkSizes } from '../../router/index.js';
import { cpuDevice } from '../../runtime/cpu.js';
import { cudaDevice } from '../../runtime/cuda.js';
import { createEnvironment } from '../../runtime/environment.js';

/** Slots for reusable prefixes beside the decoding ones. */
const PREFIX_SLOTS = 16;

/** Receives the parts that are loaded, of all parts: weight files and graphs. */
export type LoadProgress = (done: number, total: number) => void;

/** @throws Error when the folder is not a model, lacks a kernel, or the KV budget holds no sequence */
export async function loadModel(
  options: EngineOptions,
  progress: LoadProgress = () => undefined,
): Promise<StagedModel> {
  const manifest = loadManifest(options.modelDir);
  const kernels = chooseKernels(manifest, options);
  const total = compressedFiles(manifest).length + graphCount(manifest, kernels);
  let done = 0;
  const loaded = (): void => {
    progress(++done, total);
  };
  const weights = await loadCompressedWeights(options.modelDir, manifest, loaded);
  const environment = createEnvironment(options.threads);
  const device = options.device === 'cuda' ? cudaDevice(environment) : cpuDevice(environment);
  const slots = options.maxRunning + (options.prefixReuse ? PREFIX_SLOTS : 0) + (options.audit ? 1 : 0);
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
    loaded,
  );
}
