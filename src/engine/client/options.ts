/**
 * What the engine process is started with. Plain data: it travels as one JSON argument.
 *
 * Knows: the names and units. Must not know: flags and environment variables (config.ts).
 */
import type { KernelName } from '../../model/manifest.js';
import type { Policy } from '../../router/index.js';

/** `unseeded`: answers that nobody can ask for twice, and those whose requests allow it. */
export type Speculate = 'off' | 'unseeded' | 'all';

/** What the operator may decide of the router's policy. */
export type OperatorPolicy = Pick<
  Policy,
  'attainmentWeight' | 'noBudgetShare' | 'shedDepth' | 'arrivalHeadroom' | 'maxStallMs'
>;

export interface EngineOptions {
  readonly modelDir: string;
  readonly device: 'cpu' | 'cuda';
  /** Threads of the one pool that all sessions share. */
  readonly threads: number;
  /** Bytes for KV cache and kept hidden states, live sequences and reusable prefixes together. */
  readonly kvMemoryBytes: number;
  /** Most sequences that decode at once. */
  readonly maxRunning: number;
  /** Most requests that wait for a slot; one more is refused. */
  readonly maxQueue: number;
  /** Most prompt positions between two decode steps. */
  readonly prefillChunk: number;
  /** Kernels to load, or null for all that the model offers. */
  readonly kernels: readonly KernelName[] | null;
  /** Sequence ends kept for prefix reuse: false turns reuse off. */
  readonly prefixReuse: boolean;
  /** Whose answers are drafted; absent: `off`. */
  readonly speculate?: Speculate;
  /** Absent: the router's own. */
  readonly policy?: OperatorPolicy;
  /** Folder that keeps measured costs; absent: they are measured at every start. */
  readonly cacheDir?: string;
  /** Measures although there are costs in the cache. */
  readonly recalibrate?: boolean;
}
