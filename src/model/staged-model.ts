/**
 * A loaded sorted model: the sessions of every graph, the KV cache of every stage, the hidden states of every boundary.
 *
 * Must not know: sequences, depth policy, sampling.
 */
import { join } from 'node:path';
import type { Device } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import { saturates } from '../runtime/saturation.js';
import { Session, type WeightFiles } from '../runtime/session.js';
import { type ElementType, elementBytes } from '../runtime/tensor.js';
import { HiddenStateCache } from './hidden-state-cache.js';
import { KvCache } from './kv-cache.js';
import { int8Session } from './int8-session.js';
import type { ExitEntry, KernelName, Manifest, StageEntry, StageKernel } from './manifest.js';

/** A trunk stage or an exit block: each reads a boundary and owns a KV cache. */
export interface Stage {
  readonly entry: StageEntry;
  readonly sessions: ReadonlyMap<StageKernel, Session>;
  readonly kv: KvCache;
}

export interface Exit {
  readonly entry: ExitEntry;
  readonly block: Stage | null;
}

export interface ModelLimits {
  /** Sequences with a cache at the same time. */
  readonly slots: number;
  /** Positions per slot. */
  readonly capacity: number;
  /** Most rows of a batch. */
  readonly maxRows: number;
  /** Most positions of a chunk. */
  readonly maxChunk: number;
}

export class StagedModel {
  readonly embed: Session;
  readonly head: Session;
  readonly select: Session;
  readonly argmax: Session;
  readonly stages: readonly Stage[];
  readonly exits: readonly Exit[];
  /** Entry b > 0 holds the output of stage b - 1; entry 0 is null, because embeddings are computed again. */
  readonly boundaries: readonly (HiddenStateCache | null)[];
  /** Bytes of one hidden state. */
  readonly hiddenBytes: number;

  /**
   * Loads all graphs.
   * @param kernels the kernels to load for each stage
   * @param loaded called after each graph
   * @throws OrtError that names the graph
   */
  constructor(
    dir: string,
    readonly manifest: Manifest,
    readonly environment: Environment,
    readonly device: Device,
    kernels: readonly StageKernel[],
    readonly limits: ModelLimits,
    weights: WeightFiles,
    loaded: () => void = () => undefined,
  ) {
    const spec = { weights, accumulateInt32: device.kind === 'cpu' && saturates(environment, device) };
    const session = (file: string): Session => {
      const created = new Session(environment, device, join(dir, file), spec);
      loaded();
      return created;
    };
    const int8 = (file: string): Session => {
      const created = int8Session(environment, device, dir, file, weights);
      loaded();
      return created;
    };
    const { architecture } = manifest;
    const stage = (entry: StageEntry): Stage => ({
      entry,
      sessions: new Map(
        kernels.flatMap((kernel) => {
          const file = entry.graphs[sourceOf(kernel)];
          if (file === undefined) return [];
          return [[kernel, kernel === 'int8' ? int8(file) : session(file)] as const];
        }),
      ),
      kv: new KvCache(environment, device, entry.layers, {
        slots: limits.slots,
        kvHeads: architecture.kvHeads,
        capacity: limits.capacity,
        headDim: architecture.headDim,
        type: kvType(manifest),
      }),
    });
    this.hiddenBytes = stateBytes(manifest);
    this.embed = session(manifest.embed);
    this.head = session(manifest.head);
    this.select = session(manifest.select);
    this.argmax = session(manifest.argmax);
    this.stages = manifest.stages.map(stage);
    this.exits = manifest.exits.map((entry) => ({ entry, block: entry.block && stage(entry.block) }));
    const kept = keptBoundaries(manifest);
    this.boundaries = [null, ...this.stages].map((_, index) =>
      kept.has(index) ? new HiddenStateCache(device, limits.slots, limits.capacity, this.hiddenBytes) : null,
    );
  }

  /** The exit of a layer number. @throws RangeError if the layer is not an exit */
  exitIndex(layer: number): number {
    const index = this.exits.findIndex(({ entry }) => entry.layer === layer);
    if (index < 0) throw new RangeError(`layer ${layer} is not an exit`);
    return index;
  }

  /** See bytesPerPosition. */
  get bytesPerPosition(): number {
    return bytesPerPosition(this.manifest);
  }

  dispose(): void {
    for (const stage of [...this.stages, ...this.exits.flatMap(({ block }) => block ?? [])]) {
      for (const session of stage.sessions.values()) session.dispose();
      stage.kv.dispose();
    }
    for (const store of this.boundaries) store?.dispose();
    for (const session of [this.embed, this.head, this.select, this.argmax]) session.dispose();
  }
}

/** The kernel of the graph file that a kernel is loaded from. */
const sourceOf = (kernel: StageKernel): KernelName => (kernel === 'int8' ? 'w8a8' : kernel);

/** Number of graphs that a model loads with these kernels. */
export function graphCount({ stages, exits }: Manifest, kernels: readonly StageKernel[]): number {
  const all = [...stages, ...exits.flatMap(({ block }) => block ?? [])];
  const graphs = all.flatMap((stage) => kernels.filter((kernel) => stage.graphs[sourceOf(kernel)] !== undefined));
  // The embedding, the head, and the two graphs that choose tokens.
  return graphs.length + 4;
}

/** Most bytes of one position of a sequence: the KV cache of all layers, the largest exit block, hidden states. */
export function bytesPerPosition(manifest: Manifest): number {
  const blocks = blockLayers(manifest);
  const kept = blocks.filter((layers) => layers > 0).length;
  return (trunkLayers(manifest) + Math.max(...blocks)) * layerBytes(manifest) + kept * stateBytes(manifest);
}

/** Bytes of one position of a slot on a device that commits memory at allocation: all KV caches and hidden states. */
export function allocatedPerPosition(manifest: Manifest): number {
  const layers = blockLayers(manifest).reduce((a, b) => a + b, trunkLayers(manifest));
  return layers * layerBytes(manifest) + keptBoundaries(manifest).size * stateBytes(manifest);
}

/** Boundaries with hidden states that a stage or a block may need later; the first stage recomputes embeddings. */
function keptBoundaries({ stages, exits }: Manifest): ReadonlySet<number> {
  return new Set([
    ...[...stages.keys()].slice(1),
    ...exits.flatMap(({ block }) => (block === null ? [] : [block.boundary])),
  ]);
}

function trunkLayers({ stages }: Manifest): number {
  return stages.reduce((sum, stage) => sum + stage.layers, 0);
}

/** Layers of each exit's block. */
function blockLayers({ exits }: Manifest): number[] {
  return exits.map(({ block }) => block?.layers ?? 0);
}

/** Bytes of keys and values of one position in one layer. */
function layerBytes(manifest: Manifest): number {
  const { kvHeads, headDim } = manifest.architecture;
  return 2 * kvHeads * headDim * elementBytes(kvType(manifest));
}

/** Bytes of one hidden state. */
function stateBytes({ architecture, floatType }: Manifest): number {
  return architecture.hidden * elementBytes(floatType);
}

function kvType({ kvType, floatType }: Manifest): ElementType {
  return kvType ?? floatType;
}
