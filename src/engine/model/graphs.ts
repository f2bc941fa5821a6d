/** A loaded model folder, whatever the layout of its KV cache: the sessions of its graphs, its units and its limits. */
import { blocksOf } from './memory.js';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Device, DeviceInfo } from '../runtime/device.js';
import { type Environment } from '../runtime/environment.js';
import { saturates } from '../runtime/saturation.js';
import { Session, type WeightFiles } from '../runtime/session.js';
import type { Gate } from './gate.js';
import { int8Session } from './int8-graph.js';
import { SharedWeights } from './shared-weights.js';
import {
  type ExitEntry,
  isCaptured,
  type Manifest,
  type StageEntry,
  type StageKernel,
  storedKernel,
} from './manifest.js';
import { webgpuGraph } from './webgpu-graph.js';

/** A trunk stage or an exit block. */
export interface ModelUnit {
  readonly entry: StageEntry;
  readonly sessions: ReadonlyMap<StageKernel, Session>;
  /** Keys graphs of the layers behind a prompt exit that is on; absent: the unit has none. */
  readonly keys?: ReadonlyMap<StageKernel, Session>;
}

export interface ModelLimits {
  /** Sequences with a cache at the same time. */
  readonly slots: number;
  /** Most positions of a sequence. */
  readonly capacity: number;
  /** Most rows of a batch. */
  readonly maxRows: number;
  /** Most positions of a chunk. */
  readonly maxChunk: number;
}

/** A GPU with the names of the units on it, and the bytes that the model takes by the plan of memory-plan.ts. */
export type PlacedDevice = DeviceInfo & {
  readonly units: readonly string[];
  readonly plan?: { readonly weights: number; readonly kv: number; readonly scratch: number };
};

/** The engine's view of a model of either layout. */
export interface Model {
  readonly manifest: Manifest;
  readonly environment: Environment;
  readonly device: Device;
  readonly limits: ModelLimits;
  readonly stages: readonly ModelUnit[];
  readonly exits: readonly { readonly entry: ExitEntry; readonly block: ModelUnit | null }[];
  /** Bytes of KV cache and hidden states that a position of a sequence takes at most. */
  readonly bytesPerPosition: number;
  /** Kernels that failed to load, each with the reason. The others serve. */
  readonly kernelFaults: readonly string[];
  /** The gate of a looped model; null without one, and on a GPU, whose states are not read. */
  readonly gate: Gate | null;
  /** The GPU that holds the model; none on the CPU. */
  devices(): readonly PlacedDevice[];
  dispose(): void;
}

/** A model folder to load. */
export interface ModelSource {
  readonly dir: string;
  readonly manifest: Manifest;
  readonly environment: Environment;
  readonly kernels: readonly StageKernel[];
  readonly weights: WeightFiles;
  /** Called after each graph. */
  readonly loaded?: () => void;
}

/** Loads graphs of a folder on a device. */
export class GraphLoader {
  readonly #source: ModelSource;
  readonly #device: Device;
  readonly #accumulateInt32: boolean;
  readonly #weights: SharedWeights | null;
  readonly #units: Map<StageKernel, Session>[] = [];
  readonly #faults = new Map<StageKernel, string>();
  /** Sessions of the units by graph: the loops of a looped model share theirs, and so its weights. */
  readonly #sessions = new Map<string, Session>();

  constructor(source: ModelSource, device: Device) {
    this.#source = source;
    this.#device = device;
    this.#accumulateInt32 = device.kind === 'cpu' && saturates(source.environment, device);
    this.#weights =
      device.kind === 'cpu'
        ? null
        : new SharedWeights(source, device, [...new Set(graphFiles(source.manifest, source.kernels))]);
  }

  /** @throws OrtError that names the graph */
  session(file: string): Session {
    const session = this.#load(file);
    this.#source.loaded?.();
    return session;
  }

  /**
   * A unit's session for each kernel. A kernel that fails to load is left out of all units, as long as another one
   * loads.
   * @throws OrtError of the last kernel
   */
  unit(entry: StageEntry): ModelUnit {
    const sessions = this.#sessionsOf(entry.graphs);
    const keys = this.#sessionsOf(entry.prompt?.graphs ?? {});
    return { entry, sessions, ...(keys.size > 0 && { keys }) };
  }

  #sessionsOf(graphs: StageEntry['graphs']): Map<StageKernel, Session> {
    const { kernels, loaded } = this.#source;
    const captures = kernels.some(isCaptured);
    const sessions = new Map<StageKernel, Session>();
    this.#units.push(sessions);
    for (const kernel of kernels) {
      const file = graphs[storedKernel(kernel)];
      if (file === undefined) continue;
      if (!this.#faults.has(kernel)) {
        try {
          // A kernel and its captured form are one session.
          const captured = captures ? [...sessions.values()][0] : undefined;
          sessions.set(kernel, captured ?? this.#unitSession(kernel, file, captures));
        } catch (error) {
          this.#leaveOut(kernel, error);
        }
      }
      loaded?.();
    }
    return sessions;
  }

  /** Call it when all units are loaded. */
  get kernelFaults(): string[] {
    return [...this.#faults].map(([kernel, reason]) => `${kernel}: ${reason}`);
  }

  /** Frees what the sessions share. Call it when they are disposed of. */
  dispose(): void {
    this.#weights?.dispose();
  }

  #leaveOut(kernel: StageKernel, error: unknown): void {
    if (this.#faults.size + 1 === this.#source.kernels.length) throw error;
    this.#faults.set(kernel, error instanceof Error ? error.message : String(error));
    for (const session of new Set(this.#units.map((sessions) => sessions.get(kernel)))) session?.dispose();
    for (const sessions of this.#units) sessions.delete(kernel);
  }

  #unitSession(kernel: StageKernel, file: string, captures: boolean): Session {
    const key = `${kernel}/${file}`;
    const known = this.#sessions.get(key);
    if (known !== undefined) return known;
    const session = kernel === 'int8' ? this.#int8(file) : this.#load(file, captures);
    this.#sessions.set(key, session);
    return session;
  }

  #load(file: string, captures = false): Session {
    const { dir, environment, weights } = this.#source;
    const initializers = this.#weights?.of(file);
    const spec = { weights, accumulateInt32: this.#accumulateInt32, captures, ...(initializers && { initializers }) };
    const changed = this.#device.kind === 'webgpu' ? webgpuGraph(readFileSync(join(dir, file))) : null;
    if (changed !== null) return new Session(environment, this.#device, changed, { ...spec, folder: dir });
    return new Session(environment, this.#device, join(dir, file), spec);
  }

  #int8(file: string): Session {
    const { dir, environment, weights } = this.#source;
    return int8Session(environment, this.#device, dir, file, weights);
  }
}

/** The session of a unit. @throws RangeError if the unit has no such kernel */
export function sessionOf({ entry, sessions }: Pick<ModelUnit, 'entry' | 'sessions'>, kernel: StageKernel): Session {
  const session = sessions.get(kernel);
  if (!session) throw new RangeError(`${entry.name} has no kernel ${kernel}`);
  return session;
}

/** Releases the sessions of units, which may share them. */
export function disposeUnits(units: readonly ModelUnit[]): void {
  const all = units.flatMap(({ sessions, keys }) => [...sessions.values(), ...(keys?.values() ?? [])]);
  for (const session of new Set(all)) session.dispose();
}

/**
 * The graphs that a model loads with these kernels: embedding, units, and the graphs from logits to tokens. A graph
 * that several units run counts for each.
 */
export function graphFiles(manifest: Manifest, kernels: readonly StageKernel[]): string[] {
  const { embed, stages, head, select, argmax, pages } = manifest;
  const files = [...stages, ...blocksOf(manifest)].flatMap(({ graphs, prompt }) =>
    [graphs, ...(prompt ? [prompt.graphs] : [])].flatMap((each) =>
      kernels.flatMap((kernel) => each[storedKernel(kernel)] ?? []),
    ),
  );
  return [embed, ...files, head, select, argmax, ...(pages === undefined ? [] : [pages.lower])];
}
