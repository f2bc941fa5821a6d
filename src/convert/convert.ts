/**
 * The conversion: reads a source model and writes a model folder of staged graphs.
 *
 * Knows: which graphs a folder holds, and the order of weights. Must not know: file formats, operators.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { kindOf, type Architecture } from '../model/architecture.js';
import {
  gpuKernel,
  MANIFEST_VERSION,
  PAGES_LAYOUT,
  type Generation,
  type Manifest,
  type Quality,
  type StageEntry,
} from '../model/manifest.js';
import { describeFile, MANIFEST_FILE } from '../model/manifest-io.js';
import { NO_CALIBRATION, openCalibration, type Calibration } from './calibration.js';
import { checkArchitecture, checkExits, checkTensors } from './check.js';
import { checkTokenizer } from './check-tokenizer.js';
import { ConvertError } from './errors.js';
import { exitBlocksOf, exitLayer, exitNorm, NO_EXIT_BLOCKS, openExitBlocks, type ExitBlocks } from './exit-blocks.js';
import { generationOf } from './generation.js';
import { openSource } from './open-source.js';
import { loopExits, loopStages, rejectBlocks, withLoops } from './loops.js';
import { smoothedHead } from './smoothing/head.js';
import { orderedLayer } from './rotary-order.js';
import { smoothedLayer } from './smoothing/layer.js';
import { embedGraph, headGraph, type VocabularyFormat } from './onnx/embed-head.js';
import type { Graph } from './onnx/graph.js';
import { lowerGraph, pagedArgmaxGraph, pagedSelectGraph } from './onnx/paged-select.js';
import { argmaxGraph, selectGraph, topKOf } from './onnx/select.js';
import type { StageLayer } from './onnx/layer.js';
import { stageGraph } from './onnx/stage.js';
import { checkOptions, type ConvertOptions, DEFAULT_BLOCK, dryRule, hasBlocks, nameOf } from './options.js';
import { writeFolder } from './output/folder.js';
import { WeightStore } from './output/weight-store.js';
import { yieldToEventLoop } from './yield.js';
import { levelsOf } from './quantize/int8.js';
import { hasPages } from './pages.js';
import { readQuality } from './quality.js';
import type { ModelSource } from './source.js';
import { EMBEDDING, FINAL_NORM, HEAD, trunkLayer } from './tensors.js';
import { linearWeight } from './weight.js';

/** `done` of `total` steps are finished; `what` is the step that runs. */
export type Progress = (event: { done: number; total: number; what: string }) => void;

/** Receives warnings before the first progress event. */
export type Warn = (warning: string) => void;

/**
 * Converts. Throws ConvertError for a fault that the caller can fix, or the abort reason of `options.signal`. The
 * output folder is then unchanged.
 */
export async function convert(
  options: ConvertOptions,
  progress: Progress = () => undefined,
  warn: Warn = () => undefined,
): Promise<Manifest> {
  checkOptions(options);
  const { out, force } = options;
  const inputs = [options.source, options.exitBlocks, options.calibration, options.quality].filter(
    (file) => file !== undefined,
  );
  const source = openSource(options);
  let blocks = NO_EXIT_BLOCKS;
  let calibration = NO_CALIBRATION;
  try {
    const arch = source.architecture;
    checkArchitecture(arch);
    const asked = options.exits ?? source.exits;
    const exits = arch.loops === undefined ? (asked ?? [arch.layers]) : loopExits(asked, arch);
    if (arch.loops === undefined) checkExits(exits, arch.layers);
    rejectBlocks(arch, options.exitBlocks);
    checkTensors(source);
    const generation = generationOf(source.sampling, options.generation, warn);
    for (const warning of checkTokenizer(source.tokenizer, source.architecture.vocab)) warn(warning);
    if (options.exitBlocks !== undefined) blocks = openExitBlocks(options.exitBlocks, exits, source);
    else if (source.ownBlocks !== null)
      blocks = exitBlocksOf({ ...source.ownBlocks, close: () => undefined }, exits, source);
    if (options.calibration !== undefined) calibration = openCalibration(options.calibration);
    return await writeFolder({ out, force, inputs }, (folder) =>
      writeModel({ folder, source, exits, blocks, calibration, generation, options, progress }),
    );
  } finally {
    source.close();
    blocks.source.close();
    calibration.close();
  }
}

interface Conversion {
  readonly folder: string;
  readonly source: ModelSource;
  readonly exits: readonly number[];
  readonly blocks: ExitBlocks;
  readonly calibration: Calibration;
  readonly generation: Generation;
  readonly options: ConvertOptions;
  readonly progress: Progress;
}

async function writeModel(conversion: Conversion): Promise<Manifest> {
  const { folder, source, exits, blocks, calibration, generation, options, progress } = conversion;
  const arch = withLoops(source.architecture, exits.length);
  const { kernels, block = DEFAULT_BLOCK, signal } = options;
  const numbers = arch.loops === undefined ? exitNumbers(exits, blocks) : exits.map((_, loop) => loop + 1);
  const quality = options.quality === undefined ? new Map<number, Quality>() : readQuality(options.quality, numbers);
  const dry = dryRule(options);
  const floatType = gpuKernel(kernels) === undefined ? 'f32' : 'f16';
  const isPaged = hasPages(options, arch);
  const kvType = chooseKv(options, calibration, arch, blocks) ? 'i8' : floatType;
  const format = vocabularyFormat(options, arch);
  const blockLayers = [...blocks.depths.values()].reduce((a, b) => a + b, 0);
  const total = (arch.layers + blockLayers) * kernels.length + 3;
  let done = 0;
  const step = (what: string) => {
    progress({ done: done++, total, what });
  };
  const files: string[] = [];
  const save = (name: string, data: Uint8Array | string): string => {
    writeFileSync(path.join(folder, name), data);
    files.push(name);
    return name;
  };
  const saveGraph = (name: string, graph: Graph): string => save(`${name}.onnx`, graph.encode());
  const store = new WeightStore(folder, options.compress, signal);

  try {
    step('embedding and head');
    const normed = exits.filter((exit) => blocks.depths.has(exit));
    const loopNorm = arch.loops?.norm === 'final' ? source.tensor(FINAL_NORM) : null;
    const norms = [
      loopNorm ? new Float32Array(arch.hidden).fill(1) : source.tensor(FINAL_NORM).rows(0, 1),
      ...normed.map((exit) => blocks.source.tensor(exitNorm(exit)).rows(0, 1)),
    ];
    const { weight, undo } = smoothedHead(
      source.tensor(arch.tiedHead ? EMBEDDING : HEAD),
      format.kind === 'w8a8' ? calibration.head(arch.hidden) : null,
    );
    const head = { weight: linearWeight('head', [weight]), undo };
    const embedding = arch.tiedHead ? head : { weight: linearWeight('embed', [source.tensor(EMBEDDING)]), undo: null };
    const embed = saveGraph('embed', await embedGraph(embedding, arch, store, format, floatType, isPaged));
    const headFile = saveGraph('head', await headGraph(head, norms, arch, store, format, floatType));
    const select = saveGraph('select', isPaged ? pagedSelectGraph(arch.vocab) : selectGraph(arch.vocab));
    const argmax = saveGraph('argmax', isPaged ? pagedArgmaxGraph(arch.vocab) : argmaxGraph(arch.vocab));
    const pages = isPaged ? { layout: PAGES_LAYOUT, lower: saveGraph('lower', lowerGraph(arch.vocab)) } : null;

    const stage = async (name: string, boundary: number, layers: StageLayer[]): Promise<StageEntry> => {
      const graphs: StageEntry['graphs'] = {};
      for (const kernel of kernels) {
        const graph = await stageGraph(
          name,
          layers,
          arch,
          store,
          { kernel, block, levels: levelsOf(options.weightBits ?? 8), floatType, kvType, isPaged, loopNorm },
          () => {
            step(`${name} ${kernel}`);
          },
        );
        graphs[kernel] = saveGraph(`${name}.${kernel}`, graph);
      }
      return { name, boundary, layers: layers.length, graphs };
    };
    /** @param index of the layer in its exit's stack, trunk and block */
    const layerOf = async (
      from: StageLayer['source'],
      index: number,
      prefix: string,
      name: string,
    ): Promise<StageLayer> => {
      await yieldToEventLoop(signal);
      const kind = kindOf(arch, index);
      const layer = { source: from, prefix, name, kind, calibration: calibration.layer(name) };
      return orderedLayer(kernels.includes('w8a8') ? smoothedLayer(layer, arch) : layer, arch);
    };
    const trunk = async (first: number, end: number): Promise<StageLayer[]> => {
      const layers: StageLayer[] = [];
      for (let layer = first; layer < end; layer++)
        layers.push(await layerOf(source, layer, trunkLayer(layer), trunkName(layer)));
      return layers;
    };
    const stages: StageEntry[] = [];
    if (arch.loops !== undefined)
      stages.push(...loopStages(await stage('loop', 0, await trunk(0, arch.layers)), arch.loops.count));
    else
      for (const [s, exit] of exits.entries())
        stages.push(await stage(`stage-${s}`, s, await trunk(exits[s - 1] ?? 0, exit)));
    // A retuned model changes its blocks but not its trunk, so no weight file holds tensors of both.
    if (blockLayers > 0) await store.finish();
    const exitEntries: Manifest['exits'] = [];
    for (const [s, exit] of exits.entries()) {
      const depth = blocks.depths.get(exit) ?? 0;
      const branch: StageLayer[] = [];
      for (let i = 0; i < depth; i++) {
        branch.push(await layerOf(blocks.source, exit + i, exitLayer(exit, i), blockLayerName(exit, i)));
      }
      const number = numbers[s] ?? exit;
      exitEntries.push({
        layer: number,
        stage: s,
        block: depth > 0 ? await stage(`exit-${number}`, s + 1, branch) : null,
        norm: normed.indexOf(exit) + 1,
        quality: quality.get(number) ?? {},
        ...(dry && { dry }),
      });
    }
    step('tokenizer');
    await store.finish();
    const { tokenizer } = source;
    const manifest: Manifest = {
      format: 'sortie',
      version: MANIFEST_VERSION,
      name: nameOf(options),
      licence: source.licence,
      origin: options.origin ?? source.origin,
      architecture: arch,
      kernels: [...kernels],
      floatType,
      kvType,
      ...(pages && { pages }),
      ...(source.gate && { gate: save('gate.bin', new Uint8Array(source.gate.buffer)) }),
      embed,
      head: headFile,
      select,
      argmax,
      topK: topKOf(arch.vocab),
      stages,
      exits: exitEntries,
      tokenizer: save('tokenizer.json', JSON.stringify(JSON.parse(tokenizer.json))),
      chatTemplate: tokenizer.chatTemplate === null ? null : save('chat_template.jinja', tokenizer.chatTemplate),
      bosToken: tokenizer.bosToken,
      eosTokens: tokenizer.eosTokens,
      ...(Object.keys(generation).length > 0 && { generation }),
      files: [],
    };
    step('checksums');
    for (const name of [...files, ...store.files].sort()) {
      manifest.files.push(await describeFile(folder, name));
      signal?.throwIfAborted();
    }
    writeFileSync(path.join(folder, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
    progress({ done: total, total, what: 'done' });
    return manifest;
  } finally {
    store.abandon();
  }
}

/**
 * Whether the KV cache holds int8 values. They take a quarter of the memory, and attention then rounds alike for one
 * position and for many. Prefill is 2 to 3 times slower: ONNX Runtime's CPU kernel reads int8 keys row by row.
 */
function chooseKv(
  { kv, kernels, calibration: file }: ConvertOptions,
  calibration: Calibration,
  arch: Architecture,
  blocks: ExitBlocks,
): boolean {
  if (kv !== 'int8') return false;
  const gpu = gpuKernel(kernels);
  if (gpu !== undefined) throw new ConvertError('bad_option', `--kv int8 can't be combined with --kernels ${gpu}`);
  const names = Array.from({ length: arch.layers }, (_, i) => trunkName(i));
  for (const [exit, depth] of blocks.depths) for (let i = 0; i < depth; i++) names.push(blockLayerName(exit, i));
  const missing = names.find((name) => calibration.layer(name).kvRange(arch.kvHeads * arch.headDim) === null);
  if (missing !== undefined)
    throw new ConvertError(
      'bad_option',
      `--kv int8 needs a --calibration file that holds k_max and v_max of each layer, got ${file === undefined ? 'none' : `${file} without those of ${missing}`}`,
    );
  return true;
}

/** Numbers each exit by the layers that run for a token, block included: exits then compare by cost. */
function exitNumbers(exits: readonly number[], blocks: ExitBlocks): number[] {
  const numbers = exits.map((exit) => exit + (blocks.depths.get(exit) ?? 0));
  for (const [i, number] of numbers.entries())
    if (i > 0 && number <= (numbers[i - 1] ?? 0))
      throw new ConvertError(
        'bad_exits',
        `each exit must run more layers than the one before, its block included; got ${numbers.join(', ')}`,
      );
  return numbers;
}

/** Prefix of the initializers of a trunk layer. */
function trunkName(layer: number): string {
  return `layers.${layer}`;
}

/** Prefix of the initializers of a block's layer. */
function blockLayerName(exit: number, index: number): string {
  return exitLayer(exit, index).slice(0, -1);
}

/** w8a8's format if w8a8 is among the kernels (fastest for many rows); blocks beside weights in blocks; otherwise floats. */
function vocabularyFormat({ kernels, headBits }: ConvertOptions, arch: Architecture): VocabularyFormat {
  const levels = levelsOf(headBits ?? 8);
  if (kernels.includes('w8a8')) return { kind: 'w8a8', levels };
  return hasBlocks(kernels)
    ? { kind: 'blocks', block: headBlock(arch.hidden, gpuKernel(kernels) !== undefined), levels }
    : { kind: 'floats' };
}

/**
 * Columns per scale: 64 if that divides the width, which saves padding and its removal; else 32, else 128. CUDA's product
 * that unpacks weights on the way takes 32.
 */
function headBlock(hidden: number, forGpu: boolean): number {
  return (forGpu ? [32] : [64, 32]).find((block) => hidden % block === 0) ?? 128;
}
