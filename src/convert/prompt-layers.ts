/** Writes the graphs of the layers behind a prompt exit. Must not know: file formats, operators. */
import type { Architecture } from '../engine/model/architecture.js';
import type { KernelName, StageEntry } from '../engine/model/manifest.js';
import type { Graph } from '../engine/model/onnx-graph.js';
import type { StageLayer, StageOptions } from './graphs/layer.js';
import { promptKeysGraph, promptStageGraph } from './graphs/prompt-layers.js';
import { stageGraph } from './graphs/stage.js';
import type { WeightStore } from './output/weight-store.js';
import type { PromptSource } from './source.js';

export interface PromptLayersWork {
  readonly prompt: PromptSource;
  /** Index of the trunk stage that ends at the exit. */
  readonly stage: number;
  readonly arch: Architecture;
  readonly store: WeightStore;
  readonly kernels: readonly KernelName[];
  /** A layer of the trunk, or with the exit's own projections. */
  readonly layer: (index: number, own: PromptSource | null) => StageLayer | Promise<StageLayer>;
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
  const deeper = Array.from({ length: arch.layers - exit }, (_, i) => exit + i);
  const layersOf = async (own: PromptSource | null): Promise<StageLayer[]> => {
    const layers: StageLayer[] = [];
    for (const index of deeper) layers.push(await work.layer(index, own));
    return layers;
  };
  const set = { prompt, layers: await layersOf(prompt) };
  const trunk = prompt.answers === 'trunk' ? await layersOf(null) : null;
  const graphs: StageEntry['graphs'] = {};
  const keys: StageEntry['graphs'] = {};
  for (const kernel of kernels) {
    const form = work.form(kernel);
    keys[kernel] = save(`${name}-keys.${kernel}`, await promptKeysGraph(`${name}-keys`, set, arch, store, form));
    const done = (): void => {
      work.step(`${name} ${kernel}`);
    };
    const graph =
      trunk === null
        ? await promptStageGraph(name, set, arch, store, form, done)
        : await stageGraph(name, trunk, arch, store, form, done);
    graphs[kernel] = save(`${name}.${kernel}`, graph);
  }
  const caches = Math.ceil(deeper.length / group);
  const behind = { exit, layers: deeper.length, group, graphs: keys, ...(trunk && { answers: 'trunk' as const }) };
  return { name, boundary: stage + 1, layers: caches, graphs, prompt: behind };
}
