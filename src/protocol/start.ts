/** The start of an engine: its progress, its properties, its failure. */
import type { Architecture } from '../engine/model/architecture.js';
import type { CostTable } from '../engine/scheduler/cost/table.js';
import type { ExitLayer } from '../engine/scheduler/cost/model.js';

/** Source of the costs, and the fault of the cache, for the log. */
export interface Calibration {
  readonly source: 'cache' | 'measured';
  readonly note: string | null;
}

/** A GPU with the names of the model's units on it. */
export interface PlacedDevice {
  /** The provider's number of the device. */
  readonly index: number;
  readonly name: string;
  /** Driver and its version. */
  readonly driver: string | null;
  readonly memoryBytes: number | null;
  /** Memory that no process has taken, after the load. */
  readonly freeBytes: number | null;
  readonly units: readonly string[];
  /** Bytes that the model takes by plan. */
  readonly plan?: { readonly weights: number; readonly kv: number; readonly scratch: number };
}

/** Sent once, after the model is loaded and measured. */
export interface ReadyMessage {
  readonly type: 'ready';
  readonly name: string;
  readonly architecture: Architecture;
  /** Layers that a token of a prompt runs; absent: all of them. */
  readonly promptLayers?: number;
  readonly exits: readonly ExitLayer[];
  /** Most positions of a sequence: the model's context, or less under a smaller KV budget. */
  readonly maxLength: number;
  readonly slots: number;
  readonly kvTokens: number;
  readonly kernels: readonly string[];
  /** Kernels that failed to load, each with the reason, for the log. */
  readonly kernelFaults?: readonly string[];
  readonly device: string;
  /** The GPUs, after the load; empty on the CPU. */
  readonly devices: readonly PlacedDevice[];
  readonly cost: CostTable;
  readonly loadMs: number;
  readonly calibrateMs: number;
  readonly calibration?: Calibration;
}

/** Progress before `ready`: loaded parts of the model. With all parts loaded, the engine measures its steps. */
export interface LoadingMessage {
  readonly type: 'loading';
  readonly done: number;
  readonly total: number;
}

/** The engine could not start or cannot go on; it exits right after. `model` means a broken model folder. */
export interface FatalMessage {
  readonly type: 'fatal';
  readonly kind: 'model' | 'device' | 'internal';
  readonly message: string;
}
