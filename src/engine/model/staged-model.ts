/**
 * A loaded sorted model whose KV cache has slots: the KV cache of every stage, the hidden states of every boundary.
 *
 * Must not know: sequences, depth policy, sampling.
 */
import { blocksOf, bytesPerPosition, cacheHeads, cacheOfLayers, keptBoundaries, stateBytes } from './memory.js';
import type { HostDevice } from '../runtime/device.js';
import type { Environment } from '../runtime/environment.js';
import type { Session } from '../runtime/session.js';
import { Tensor } from '../runtime/tensor.js';
import { stateWidth } from './architecture.js';
import { type Gate, loadGate } from './gate.js';
import { disposeUnits, GraphLoader, type Model, type ModelLimits, type ModelSource, type ModelUnit } from './graphs.js';
import { RowFiles } from './weight-files.js';
import { HiddenStateCache, KvCache } from './kv-cache.js';
import type { ExitEntry, Manifest, StageEntry } from './manifest.js';

/** A trunk stage or an exit block: each reads a boundary and owns a KV cache. */
export interface Stage extends ModelUnit {
  readonly kv: KvCache;
}

export interface Exit {
  readonly entry: ExitEntry;
  readonly block: Stage | null;
}

export class StagedModel implements Model {
  readonly manifest: Manifest;
  readonly environment: Environment;
  readonly embed: Session;
  readonly head: Session;
  readonly select: Session;
  readonly argmax: Session;
  readonly stages: readonly Stage[];
  readonly exits: readonly Exit[];
  /** Entry b > 0 holds the output of stage b - 1; entry 0 is null, because embeddings are computed again. */
  readonly boundaries: readonly (HiddenStateCache | null)[];
  readonly kernelFaults: readonly string[];
  readonly gate: Gate | null;
  /** Bytes of one hidden state. */
  readonly hiddenBytes: number;
  /** Files of the embedding's rows. */
  readonly rows: RowFiles;
  readonly #width: number;

  /** Loads all graphs. @throws OrtError that names the graph */
  constructor(
    source: ModelSource,
    readonly device: HostDevice,
    readonly limits: ModelLimits,
  ) {
    const { manifest, environment } = source;
    this.manifest = manifest;
    this.environment = environment;
    const graphs = new GraphLoader(source, device);
    const { architecture, kvType: type } = manifest;
    const { slots, capacity } = limits;
    const stage = (entry: StageEntry): Stage => ({
      ...graphs.unit(entry),
      kv: new KvCache(
        environment,
        device,
        cacheHeads(entry, architecture),
        { slots, capacity, type },
        cacheOfLayers(entry),
      ),
    });
    this.hiddenBytes = stateBytes(manifest);
    this.#width = stateWidth(architecture);
    this.embed = graphs.session(manifest.embed);
    this.head = graphs.session(manifest.head);
    this.select = graphs.session(manifest.select);
    this.argmax = graphs.session(manifest.argmax);
    this.stages = manifest.stages.map(stage);
    this.exits = manifest.exits.map((entry) => ({ entry, block: entry.block && stage(entry.block) }));
    this.kernelFaults = graphs.kernelFaults;
    this.gate = loadGate(source.dir, manifest);
    this.rows = new RowFiles(source.dir, manifest);
    const kept = keptBoundaries(manifest);
    this.boundaries = [null, ...this.stages].map((_, index) =>
      kept.has(index) ? new HiddenStateCache(device, slots, capacity, this.hiddenBytes) : null,
    );
  }

  devices(): [] {
    return [];
  }

  get bytesPerPosition(): number {
    return bytesPerPosition(this.manifest);
  }

  /** States at an address, [...dims, width]. The caller disposes the tensor. */
  states(address: bigint, dims: readonly number[]): Tensor {
    const { floatType } = this.manifest;
    return new Tensor(this.environment, this.device.memoryInfo, address, [...dims, this.#width], floatType);
  }

  dispose(): void {
    const stages = [...this.stages, ...blocksOf(this)];
    disposeUnits(stages);
    for (const { kv } of stages) kv.dispose();
    for (const store of this.boundaries) store?.dispose();
    for (const session of [this.embed, this.head, this.select, this.argmax]) session.dispose();
  }
}
