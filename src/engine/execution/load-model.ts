/**
 * From engine options to a loaded model: kernels, device, and the sequences and positions that the KV budget allows.
 *
 * Must not know: requests.
 */
import type { EngineOptions } from '../../protocol/engine-options.js';
import { graphFiles, type ModelSource } from '../model/graphs.js';
import { chooseKernels } from '../model/kernels.js';
import type { Manifest } from '../model/manifest.js';
import { loadManifest } from '../model/manifest-io.js';
import { bytesPerPosition, mostPages } from '../model/memory.js';
import { checkPlan, memoryPlan, MOST_PARTS, pagePositions } from '../model/memory-plan.js';
import { checkWeightFiles } from '../model/onnx-weights.js';
import { PagedModel } from '../model/paged-model.js';
import { StagedModel } from '../model/staged-model.js';
import { compressedFiles, loadCompressedWeights } from '../model/weight-files.js';
import { chunkSizes } from '../scheduler/policy.js';
import { cpuDevice, type Gpu, type HostDevice } from '../runtime/device.js';
import { cudaDevice } from '../runtime/cuda.js';
import { createEnvironment, type Environment } from '../runtime/environment.js';
import { webgpuDevice } from '../runtime/webgpu.js';

/** Slots beside those of --max-running, for stored prefixes. */
const STORED_SLOTS = 16;

/** Receives the parts that are loaded, of all parts: weight files and graphs. */
export type LoadProgress = (done: number, total: number) => void;

/** Opens devices; tests watch or guard their memory. */
export interface Devices {
  readonly host: (environment: Environment) => HostDevice;
  readonly gpu: (kind: 'cuda' | 'webgpu', environment: Environment, index: number) => Gpu;
}

const DEVICES: Devices = {
  host: cpuDevice,
  gpu: (kind, environment, index) =>
    kind === 'cuda' ? cudaDevice(environment, index) : webgpuDevice(environment, index),
};

/** @throws Error when the folder is not a model, lacks a kernel, or the KV budget holds no sequence */
export async function loadModel(
  options: EngineOptions,
  progress: LoadProgress = () => undefined,
  devices: Devices = DEVICES,
): Promise<StagedModel | PagedModel> {
  const manifest = promptManifest(loadManifest(options.modelDir), options);
  const kernels = chooseKernels(manifest, options);
  const graphs = graphFiles(manifest, kernels);
  checkWeightFiles(options.modelDir, graphs);
  const total = compressedFiles(manifest).length + graphs.length;
  let done = 0;
  const loaded = (): void => {
    progress(++done, total);
  };
  const weights = await loadCompressedWeights(options.modelDir, manifest, loaded);
  const environment = createEnvironment(options.threads);
  const source: ModelSource = { dir: options.modelDir, manifest, environment, kernels, weights, loaded };
  const slots = options.maxRunning + STORED_SLOTS;
  const limits = { slots, maxRows: slots, maxChunk: Math.max(...chunkSizes(options.prefillChunk)) };
  const { device } = options;
  if (device === 'cpu') {
    const capacity = positionsIn(options.kvMemoryBytes, bytesPerPosition(manifest), manifest);
    return new StagedModel(source, devices.host(environment), { ...limits, capacity });
  }
  if (options.maxRunning > MOST_PARTS)
    throw new Error(`--max-running: a GPU runs at most ${MOST_PARTS} sequences together, got ${options.maxRunning}`);
  const gpu = devices.gpu(device, environment, options.deviceIndex ?? 0);
  const page = pagePositions(manifest.architecture, device);
  const pages = Math.floor(options.kvMemoryBytes / (page * bytesPerPosition(manifest)));
  const capacity = Math.min(
    positionsIn(options.kvMemoryBytes, bytesPerPosition(manifest), manifest, page),
    pages * page,
  );
  const most = mostPages(manifest, page, gpu.maxBufferBytes) - 1;
  if (pages > most)
    throw new Error(
      `--kv-memory: the device holds at most ${most * page * bytesPerPosition(manifest)} bytes for this model, got ${options.kvMemoryBytes}`,
    );
  const plan = memoryPlan(options.modelDir, manifest, kernels, { ...limits, pages, page });
  const pageBytes = page * bytesPerPosition(manifest);
  if (device === 'cuda') checkPlan(plan, gpu.info()?.freeBytes ?? null, options.kvMemoryBytes, pageBytes);
  return new PagedModel(source, gpu, { ...limits, capacity, pages, page }, plan);
}

/** The manifest without the keys graphs of a prompt exit that the options turn off: prompts then run all layers. */
function promptManifest(manifest: Manifest, { promptExit = true }: EngineOptions): Manifest {
  if (promptExit) return manifest;
  const exits = manifest.exits.map(({ block, ...exit }) => ({
    ...exit,
    block: block?.prompt ? { ...block, prompt: { ...block.prompt, graphs: {} } } : block,
  }));
  return { ...manifest, exits };
}

/** Most positions of a sequence. @throws Error if the budget holds fewer than `least` */
function positionsIn(bytes: number, perPosition: number, { architecture }: Manifest, least = 1): number {
  const positions = Math.floor(bytes / perPosition);
  if (positions >= least) return Math.min(architecture.context, positions);
  const rule = least === 1 ? 'a position takes' : `${least} positions share a page, and each takes`;
  throw new Error(`--kv-memory: ${bytes} bytes are too few for a sequence; ${rule} ${perPosition}`);
}
