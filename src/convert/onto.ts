/**
 * Adds the prompt exit of a source to a copy of a model folder. The folder's files stay as they are: the new graphs
 * share its weights, and only the exit's own projections are written. The source has to be tuned on the folder's own
 * values (`sorted-tuning base-of`), since smoothed inputs change what a projection reads.
 */
import { cpSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { kindOf, type Architecture } from '../engine/model/architecture.js';
import { graphFiles } from '../engine/model/graphs.js';
import type { FileEntry, Manifest, StageEntry } from '../engine/model/manifest.js';
import { describeFile, loadManifest, MANIFEST_FILE, verifyFiles } from '../engine/model/manifest-io.js';
import type { Graph } from '../engine/model/onnx-graph.js';
import { externalTensors, type ExternalTensor } from '../engine/model/onnx-weights.js';
import { compressedFiles, loadCompressedWeights, weightBytes } from '../engine/model/weight-files.js';
import { kebab } from '../util/kebab.js';
import { NO_CALIBRATION } from './calibration.js';
import { ConvertError } from './conversion-error.js';
import { DEFAULT_BLOCK, type ConvertOptions } from './convert-options.js';
import { trunkName } from './exit-blocks.js';
import type { StageLayer } from './graphs/layer.js';
import { openSource } from './open-source.js';
import { writeFolder } from './output/folder.js';
import { WeightStore } from './output/weight-store.js';
import { behindExit, checkPromptExit } from './prompt-exit.js';
import { writePromptLayers } from './prompt-layers.js';
import { levelsOf } from './quantize/int8.js';
import { orderedLayer } from './rotary-order.js';
import type { ModelSource, PromptSource } from './source.js';
import { LAYER, trunkLayer } from './tensors.js';
import type { Progress } from './write-model.js';

/** Bytes of a new weight file: small files suit a repository that gets one for each tuning. */
const FILE_LIMIT_BYTES = 5_000_000;

/** Options that describe what the folder already fixes. */
const FIXED = [
  'exits',
  'context',
  'block',
  'modes',
  'exitBlocks',
  'calibration',
  'kv',
  'headBits',
  'quality',
  'dry',
  'generation',
] as const;

interface Addition {
  readonly onto: string;
  readonly manifest: Manifest;
  readonly source: ModelSource;
  readonly prompt: PromptSource;
  /** Index of the trunk stage that ends at the exit. */
  readonly stage: number;
  readonly tensors: readonly ExternalTensor[];
  readonly options: ConvertOptions;
  readonly progress: Progress;
}

/** @throws ConvertError for a folder or a source that does not fit; `out` is then unchanged */
export async function convertOnto(onto: string, options: ConvertOptions, progress: Progress): Promise<Manifest> {
  const set = FIXED.find((name) => options[name] !== undefined);
  if (set !== undefined) throw fault(`must stand without --${kebab(set)}, which the folder decides`);
  const manifest = loadManifest(onto);
  await verifyFiles(onto, manifest, options.signal);
  const source = openSource(options);
  try {
    const { prompt } = source;
    if (prompt === null) throw fault('needs a source with a prompt exit (LlamaSwiftKVForCausalLM and its twins)');
    checkPromptExit(prompt, source.architecture);
    const stage = stageOf(manifest, prompt.exit);
    checkShape(manifest, source.architecture);
    const graphs = [...new Set(graphFiles(manifest, manifest.kernels))];
    const tensors = graphs.flatMap((file) => externalTensors(path.join(onto, file)));
    await checkWeights({ onto, manifest, source, prompt, tensors });
    const inputs = [options.source, onto];
    return await writeFolder({ out: options.out, force: options.force, inputs }, (folder) =>
      add(folder, { onto, manifest, source, prompt, stage, tensors, options, progress }),
    );
  } finally {
    source.close();
  }
}

const fault = (rule: string): ConvertError => new ConvertError('bad_option', `--onto ${rule}`);

function stageOf({ stages, pages, prompt, architecture, kvType }: Manifest, exit: number): number {
  if (pages !== undefined || architecture.loops !== undefined || prompt !== undefined || kvType === 'i8')
    throw fault('must be a folder for CPUs with a KV cache in floats, without loops and without a prompt exit');
  let end = 0;
  const ends = stages.map(({ layers }) => (end += layers));
  const stage = ends.slice(0, -1).indexOf(exit);
  if (stage < 0)
    throw fault(`must be a folder with a stage that ends at the prompt exit, ${exit}, got ends at ${ends.join(', ')}`);
  return stage;
}

/** The context may differ: it is the folder's. */
function checkShape({ architecture }: Manifest, own: Architecture): void {
  for (const [field, value] of Object.entries(architecture)) {
    const got = own[field as keyof Architecture];
    if (field === 'context' || JSON.stringify(got) === JSON.stringify(value)) continue;
    throw fault(`must be a folder of the source's architecture, got another ${field}: ${JSON.stringify(value)}`);
  }
}

/** The norms of the layers behind the exit tell whether the source was tuned on the folder's values. */
async function checkWeights(
  found: Pick<Addition, 'onto' | 'manifest' | 'source' | 'prompt' | 'tensors'>,
): Promise<void> {
  const { onto, manifest, source, prompt, tensors } = found;
  if (source.architecture.norms === 'post') return;
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const files = compressedFiles(manifest).length > 0 ? await loadCompressedWeights(onto, manifest) : new Map();
  for (let layer = prompt.exit; layer < source.architecture.layers; layer++)
    for (const [label, part] of [
      ['attn_norm', 'attnNorm'],
      ['mlp_norm', 'mlpNorm'],
    ] as const) {
      const stored = byName.get(`${trunkName(layer)}.${label}`);
      if (stored === undefined) throw fault(`must be a folder with the tensor ${trunkName(layer)}.${label}`);
      const own = source.tensor(trunkLayer(layer) + LAYER[part]).rows(0, 1);
      if (!Buffer.from(own.buffer, own.byteOffset, own.byteLength).equals(weightBytes(onto, files, stored)))
        throw fault(`must be the folder whose values the source was tuned on (sorted-tuning base-of), got another`);
    }
}

async function add(folder: string, addition: Addition): Promise<Manifest> {
  const { onto, manifest, prompt, tensors, options, progress } = addition;
  for (const { path: name } of manifest.files) cpSync(path.join(onto, name), path.join(folder, name));
  const stored = { tensors, files: manifest.files.filter(({ path: name }) => name.startsWith('weights-')).length };
  const { compress, signal } = options;
  const store = new WeightStore(folder, { compress, signal, stored, fileLimit: FILE_LIMIT_BYTES });
  const graphs: string[] = [];
  const total = (manifest.architecture.layers - prompt.exit) * manifest.kernels.length + 1;
  let done = 0;
  const step = (what: string): void => {
    progress({ done: done++, total, what });
  };
  try {
    const save = (name: string, graph: Graph): string => {
      const file = `${name}.onnx`;
      writeFileSync(path.join(folder, file), graph.encode());
      graphs.push(file);
      return file;
    };
    const block = await writeBlock(addition, store, save, step);
    await store.finish();
    step('checksums');
    const added: FileEntry[] = [];
    for (const name of [...graphs, ...store.files]) added.push(await describeFile(folder, name, signal));
    const whole = withPrompt(addition, block, added);
    writeFileSync(path.join(folder, MANIFEST_FILE), `${JSON.stringify(whole, null, 2)}\n`);
    progress({ done: total, total, what: 'done' });
    return whole;
  } finally {
    store.abandon();
  }
}

function writeBlock(
  { manifest, source, prompt, stage, options }: Addition,
  store: WeightStore,
  save: (name: string, graph: Graph) => string,
  step: (what: string) => void,
): Promise<StageEntry> {
  const { architecture: arch, kernels, floatType, kvType } = manifest;
  const levels = levelsOf(options.weightBits ?? 8);
  const layer = (index: number, own: PromptSource | null): StageLayer => {
    const name = trunkName(index);
    const kind = kindOf(arch, index);
    const calibration = NO_CALIBRATION.layer(name);
    return orderedLayer({ source: behindExit(source, own), prefix: trunkLayer(index), name, kind, calibration }, arch);
  };
  return writePromptLayers({
    prompt,
    stage,
    arch,
    store,
    kernels,
    layer,
    form: (kernel) => ({ kernel, block: DEFAULT_BLOCK, levels, floatType, kvType, isPaged: false, loopNorm: null }),
    save,
    step,
  });
}

/** The folder's manifest with full depth behind the prompt exit. Its quality is unknown until it is measured. */
function withPrompt({ manifest, stage, options }: Addition, block: StageEntry, added: FileEntry[]): Manifest {
  const last = manifest.exits.at(-1);
  if (last === undefined) throw new RangeError('a manifest needs an exit');
  const files = [...manifest.files, ...added].sort((a, b) => (a.path < b.path ? -1 : 1));
  const name = options.name ?? manifest.name;
  return { ...manifest, name, prompt: { ...last, stage, block, quality: {} }, files };
}
