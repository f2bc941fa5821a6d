/**
 * Writes the graphs, the tokenizer and the manifest of a model folder.
 *
 * Knows: which graphs a folder holds, and the order of weights. Must not know: file formats, operators.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { kindOf, leaderOf, ofLayer, sharedLayers, type Architecture } from '../engine/model/architecture.js';
import {
  MANIFEST_VERSION,
  PAGES_LAYOUT,
  type Dry,
  type Generation,
  type KernelName,
  type Manifest,
  type Quality,
  type StageEntry,
} from '../engine/model/manifest.js';
import { describeFile, MANIFEST_FILE } from '../engine/model/manifest-io.js';
import type { Graph } from '../engine/model/onnx-graph.js';
import type { Calibration } from './calibration.js';
import { blockLayerName, type ExitBlocks, exitLayer, exitNorm, exitNumbers, trunkName } from './exits.js';
import { loopStages, publishedQuality } from './exits.js';
import { orderedLayer } from './rope.js';
import { smoothedHead, smoothedLayer } from './smoothing.js';
import { embedGraph, headGraph, type VocabularyFormat } from './graphs/embed-head.js';
import type { StageLayer, StageOptions } from './graphs/layer.js';
import { argmaxGraph, lowerGraph, pagedArgmaxGraph, pagedSelectGraph, selectGraph, topKOf } from './graphs/select.js';
import { promptKeysGraph, promptStageGraph } from './graphs/prompt-layers.js';
import { stageGraph, type StageWork } from './graphs/stage.js';
import { type ConvertOptions, nameOf, type StageForm, stageForm, vocabularyFormat } from './convert-options.js';
import { WeightStore, yieldToEventLoop } from './output/weight-store.js';
import { levelsOf } from './quantize/int8.js';
import { behindExit, promptExit } from './prompt-exit.js';
import { quantizeToNearest } from './quantize/int4.js';
import { dryRule, readQuality } from './settings.js';
import { EMBEDDING, FINAL_NORM, HEAD, type ModelSource, type PromptSource, trunkLayer } from './source.js';
import { linearWeight } from './weight.js';

/** `done` of `total` steps are finished; `what` is the step that runs. */
export type Progress = (event: { done: number; total: number; what: string }) => void;

/** A checked conversion. */
export interface Conversion {
  readonly folder: string;
  readonly source: ModelSource;
  readonly exits: readonly number[];
  /** Trunk layers after which a stage ends, one for each exit. */
  readonly ends: readonly number[];
  readonly blocks: ExitBlocks;
  readonly calibration: Calibration;
  readonly generation: Generation;
  readonly options: ConvertOptions;
  readonly progress: Progress;
}

/** @returns the manifest of the folder @throws ConvertError, or the abort reason of `options.signal` */
export async function writeModel(conversion: Conversion): Promise<Manifest> {
  const writer = new ModelWriter(conversion);
  try {
    return await writer.write();
  } finally {
    writer.abandon();
  }
}

class ModelWriter {
  readonly #conversion: Conversion;
  readonly #arch: Architecture;
  readonly #form: StageForm;
  readonly #format: VocabularyFormat;
  readonly #store: WeightStore;
  /** Files beside those of the store. */
  readonly #files: string[] = [];
  /** Numbers that clients give the exits, and the exits with a norm of their own. */
  readonly #numbers: readonly number[];
  readonly #normed: readonly number[];
  readonly #quality: ReadonlyMap<number, Quality>;
  readonly #dry: Dry | undefined;
  readonly #blockLayers: number;
  readonly #total: number;
  #done = 0;

  constructor(conversion: Conversion) {
    const { folder, source, exits, blocks, calibration, options } = conversion;
    const { loops, ...plain } = source.architecture;
    const arch = loops === undefined ? plain : { ...plain, loops: { ...loops, count: exits.length } };
    this.#conversion = conversion;
    this.#arch = arch;
    this.#form = stageForm(options, calibration, arch, blocks);
    this.#format = vocabularyFormat(options, arch);
    this.#numbers = exitNumbers(exits, blocks, arch);
    this.#normed = exits.filter((exit) => blocks.depths.has(exit));
    this.#quality = readQuality(options.quality, this.#numbers);
    this.#dry = dryRule(options.dry);
    this.#blockLayers = [...blocks.depths.values()].reduce((a, b) => a + b, 0);
    this.#total = (arch.layers + this.#blockLayers) * options.kernels.length + 3;
    this.#store = new WeightStore(folder, { compress: options.compress, signal: options.signal });
  }

  async write(): Promise<Manifest> {
    const { source, generation, options } = this.#conversion;
    const { tokenizer } = source;
    const { floatType, kvType } = this.#form;
    this.#step('embedding and head');
    const vocabulary = await this.#vocabulary();
    const stages = await this.#stages();
    // A retuned model changes its blocks but not its trunk, so no weight file holds tensors of both.
    if (this.#blockLayers > 0) await this.#store.finish();
    const exits = await this.#exits();
    this.#step('tokenizer');
    await this.#store.finish();
    return this.#finish({
      format: 'sortie',
      version: MANIFEST_VERSION,
      name: nameOf(options),
      licence: source.licence,
      origin: options.origin ?? source.origin,
      architecture: this.#arch,
      kernels: [...options.kernels],
      floatType,
      kvType,
      ...(source.gate && { gate: this.#save('gate.bin', new Uint8Array(source.gate.buffer)) }),
      ...vocabulary,
      topK: topKOf(this.#arch.vocab),
      stages,
      exits,
      tokenizer: this.#save('tokenizer.json', JSON.stringify(JSON.parse(tokenizer.json))),
      chatTemplate: tokenizer.chatTemplate === null ? null : this.#save('chat_template.jinja', tokenizer.chatTemplate),
      bosToken: tokenizer.bosToken,
      eosTokens: tokenizer.eosTokens,
      ...(Object.keys(generation).length > 0 && { generation }),
      files: [],
    });
  }

  /** Closes the current weight file after a failure. */
  abandon(): void {
    this.#store.abandon();
  }

  /** Writes the graphs around the stages. */
  async #vocabulary(): Promise<Pick<Manifest, 'pages' | 'embed' | 'head' | 'select' | 'argmax'>> {
    const { source, blocks, calibration, options } = this.#conversion;
    const arch = this.#arch;
    const work = { ...this.#form, arch, store: this.#store, format: this.#format };
    const { isPaged } = work;
    const norms = [
      this.#loopNorm ? new Float32Array(arch.hidden).fill(1) : source.tensor(FINAL_NORM).rows(0, 1),
      ...this.#normed.map((exit) => blocks.source.tensor(exitNorm(exit)).rows(0, 1)),
    ];
    const { weight, undo } = smoothedHead(
      source.tensor(arch.tiedHead ? EMBEDDING : HEAD),
      work.format.kind === 'w8a8' ? calibration.head(arch.hidden) : null,
    );
    const head = { weight: linearWeight('head', [weight]), undo };
    const embedding = arch.tiedHead ? head : { weight: linearWeight('embed', [source.tensor(EMBEDDING)]), undo: null };
    const [kernel = 'fp32'] = options.kernels;
    const perLayer = { source, kernel: { kernel, levels: this.#levels, quantizer: () => quantizeToNearest } };
    return {
      embed: this.#saveGraph('embed', await embedGraph(embedding, work, perLayer)),
      head: this.#saveGraph('head', await headGraph(head, norms, work)),
      select: this.#saveGraph('select', (isPaged ? pagedSelectGraph : selectGraph)(arch.vocab)),
      argmax: this.#saveGraph('argmax', (isPaged ? pagedArgmaxGraph : argmaxGraph)(arch.vocab)),
      ...(isPaged && { pages: { layout: PAGES_LAYOUT, lower: this.#saveGraph('lower', lowerGraph(arch.vocab)) } }),
    };
  }

  get #levels(): number {
    return levelsOf(this.#conversion.options.weightBits ?? 8);
  }

  async #stages(): Promise<StageEntry[]> {
    const { source, ends } = this.#conversion;
    const { layers, loops } = this.#arch;
    const trunk = async (name: string, boundary: number, first: number, end: number): Promise<StageEntry> => {
      const stage: StageLayer[] = [];
      for (let layer = first; layer < end; layer++)
        stage.push(await this.#layer(source, layer, trunkLayer(layer), trunkName(layer)));
      return this.#stage(name, boundary, stage);
    };
    if (loops !== undefined) return loopStages(await trunk('loop', 0, 0, layers), loops.count);
    const stages: StageEntry[] = [];
    for (const [s, end] of ends.entries()) stages.push(await trunk(`stage-${s}`, s, ends[s - 1] ?? 0, end));
    return stages;
  }

  /** The layers behind the prompt exit, a branch of the boundary where it leaves the trunk. */
  async #promptLayers(prompt: PromptSource | null, exit: number, boundary: number): Promise<StageEntry> {
    const { source, options } = this.#conversion;
    const name = `prompt-${exit}`;
    const layers: StageLayer[] = [];
    const weights = prompt === null ? source : behindExit(source, prompt);
    for (let layer = exit; layer < this.#arch.layers; layer++)
      layers.push(await this.#layer(weights, layer, trunkLayer(layer), trunkName(layer)));
    const shared = sharedLayers(this.#arch);
    const group = prompt?.group ?? 1;
    const caches = layers.map(({ place }, i) =>
      prompt === null ? shared.indexOf(leaderOf(this.#arch, place)) : Math.floor(i / group),
    );
    const graphs: StageEntry['graphs'] = {};
    const keys: StageEntry['graphs'] = {};
    for (const kernel of options.kernels) {
      const work = { ...this.#work(name, layers, kernel), prompt, caches };
      const keysGraph = await promptKeysGraph({ ...work, name: `${name}-keys` });
      keys[kernel] = this.#saveGraph(`${name}-keys.${kernel}`, keysGraph);
      const graph = await promptStageGraph(work, () => {
        this.#step(`${name} ${kernel}`);
      });
      graphs[kernel] = this.#saveGraph(`${name}.${kernel}`, graph);
    }
    const behind = { exit, layers: layers.length, group, ...(prompt === null && { caches }), graphs: keys };
    const leaders = layers.filter((_, i) => caches.indexOf(caches[i] ?? -1) === i);
    return { name, boundary, layers: leaders.length, ...this.#heads(leaders), graphs, prompt: behind };
  }

  async #exits(): Promise<Manifest['exits']> {
    const { source, exits, blocks } = this.#conversion;
    const { prompt } = source;
    const behind = promptExit(source);
    const entries: Manifest['exits'] = [];
    for (const [stage, exit] of exits.entries()) {
      const depth = blocks.depths.get(exit) ?? 0;
      const branch: StageLayer[] = [];
      for (let i = 0; i < depth; i++)
        branch.push(await this.#layer(blocks.source, exit + i, exitLayer(exit, i), blockLayerName(exit, i)));
      const number = this.#numbers[stage] ?? exit;
      const block = depth > 0 ? await this.#stage(`exit-${number}`, stage + 1, branch) : null;
      entries.push({
        layer: number,
        stage,
        block:
          behind !== null && stage === exits.length - 1 ? await this.#promptLayers(prompt, behind, stage + 1) : block,
        norm: this.#normed.indexOf(exit) + 1,
        quality: this.#quality.get(number) ?? publishedQuality(source, exits.length, number),
        ...(this.#dry && { dry: this.#dry }),
      });
    }
    return entries;
  }

  /** @param index of the layer in its exit's stack, trunk and block */
  async #layer(source: StageLayer['source'], index: number, prefix: string, name: string): Promise<StageLayer> {
    const { options, calibration } = this.#conversion;
    await yieldToEventLoop(options.signal);
    const sizes = { place: index, kind: kindOf(this.#arch, index), arch: ofLayer(this.#arch, index) };
    const layer = { source, prefix, name, ...sizes, calibration: calibration.layer(name) };
    return orderedLayer(options.kernels.includes('w8a8') ? smoothedLayer(layer) : layer);
  }

  /** Heads of the layers' KV caches, where they differ from those of the architecture. */
  #heads(layers: readonly StageLayer[]): Pick<StageEntry, 'heads'> {
    if (layers.every(({ kind }) => kind.headDim === undefined && kind.kvHeads === undefined)) return {};
    return { heads: layers.map(({ arch }): [number, number] => [arch.kvHeads, arch.headDim]) };
  }

  async #stage(name: string, boundary: number, layers: StageLayer[]): Promise<StageEntry> {
    const graphs: StageEntry['graphs'] = {};
    for (const kernel of this.#conversion.options.kernels) {
      const graph = await stageGraph(this.#work(name, layers, kernel), () => {
        this.#step(`${name} ${kernel}`);
      });
      graphs[kernel] = this.#saveGraph(`${name}.${kernel}`, graph);
    }
    return { name, boundary, layers: layers.length, ...this.#heads(layers), graphs };
  }

  #work(name: string, layers: readonly StageLayer[], kernel: KernelName): StageWork {
    const options = { ...this.#form, kernel, levels: this.#levels, loopNorm: this.#loopNorm };
    return { name, layers, arch: this.#arch, store: this.#store, options };
  }

  /** The norm that ends every loop; null for none. */
  get #loopNorm(): StageOptions['loopNorm'] {
    return this.#arch.loops?.norm === 'final' ? this.#conversion.source.tensor(FINAL_NORM) : null;
  }

  /** Adds the checksums, and writes the manifest. */
  async #finish(manifest: Manifest): Promise<Manifest> {
    const { folder, options, progress } = this.#conversion;
    this.#step('checksums');
    for (const name of [...this.#files, ...this.#store.files].sort()) {
      manifest.files.push(await describeFile(folder, name));
      options.signal?.throwIfAborted();
    }
    writeFileSync(path.join(folder, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`);
    progress({ done: this.#total, total: this.#total, what: 'done' });
    return manifest;
  }

  #step(what: string): void {
    this.#conversion.progress({ done: this.#done++, total: this.#total, what });
  }

  #saveGraph(name: string, graph: Graph): string {
    return this.#save(`${name}.onnx`, graph.encode());
  }

  #save(name: string, data: Uint8Array | string): string {
    writeFileSync(path.join(this.#conversion.folder, name), data);
    this.#files.push(name);
    return name;
  }
}
