/** Writes the graphs of the layers behind a prompt exit. Must not know: file formats, operators. */
import type { Architecture } from '../model/architecture.js';
import type { KernelName, StageEntry } from '../model/manifest.js';
import type { Graph } from '../model/onnx-graph.js';
import type { StageLayer, StageOptions } from './onnx/layer.js';
import { promptKeysGraph, promptStageGraph } from './onnx/prompt-layers.js';
import type { WeightStore } from './output/weight-store.js';
import type { PromptSource } from './source.js';

export interface PromptLayersWork {
  readonly prompt: PromptSource;
  /** Index of the trunk stage that ends at the exit. */
  readonly stage: number;
  readonly arch: Architecture;
  readonly store: WeightStore;
  readonly kernels: readonly KernelName[];
  /** A layer whose source has the exit's own projections. */
  readonly layer: (index: number) => StageLayer | Promise<StageLayer>;
  readonly form: (kernel: KernelName) => StageOptions;
  /** Writes a graph. @returns the name of its file */
  readonly save: (name: string, graph: Graph) => string;
  /** Called for each layer. */
  readonly step: (what: string) => void;
}

/** @returns the manifest's entry, a branch of the boundary where prompts leave the trunk */
export async function writePromptLayers(work: PromptLayersWork): Promise<StageEntry> {
  const { prompt, stage, arch, store, kernels, save } = work;
  const { exit, group } = prompt;
  const name = `prompt-${exit}`;
  const layers: StageLayer[] = [];
  for (let layer = exit; layer < arch.layers; layer++) layers.push(await work.layer(layer));
  const set = { prompt, layers };
  const graphs: StageEntry['graphs'] = {};
  const keys: StageEntry['graphs'] = {};
  for (const kernel of kernels) {
    const form = work.form(kernel);
    keys[kernel] = save(`${name}-keys.${kernel}`, await promptKeysGraph(`${name}-keys`, set, arch, store, form));
    const graph = await promptStageGraph(name, set, arch, store, form, () => {
      work.step(`${name} ${kernel}`);
    });
    graphs[kernel] = save(`${name}.${kernel}`, graph);
  }
  const caches = Math.ceil(layers.length / group);
  const behind = { exit, layers: layers.length, group, graphs: keys };
  return { name, boundary: stage + 1, layers: caches, graphs, prompt: behind };
}
