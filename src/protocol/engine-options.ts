/**
 * Options of the engine process. Plain data: the gateway passes them as one JSON argument.
 *
 * Must not know: flags and environment variables (cli/options/config.ts).
 */
import type { StageKernel } from '../engine/model/manifest.js';

/** `unseeded`: answers that no client can reproduce, and answers whose requests allow drafts. */
export type Speculate = 'off' | 'unseeded' | 'all';

export interface EngineOptions {
  readonly modelDir: string;
  readonly device: 'cpu' | 'cuda' | 'webgpu';
  /** Number of the GPU; absent: 0. */
  readonly deviceIndex?: number;
  /** Threads of the one pool that all sessions share. */
  readonly threads: number;
  /** Bytes for KV cache and stored hidden states, of live sequences and reusable prefixes together. */
  readonly kvMemoryBytes: number;
  /** Most sequences that decode concurrently. */
  readonly maxRunning: number;
  /** Most requests that wait for a slot; the engine rejects further ones. */
  readonly maxQueue: number;
  /** Most prompt positions between two decode steps. */
  readonly prefillChunk: number;
  /** Kernels to load, or null for all that the model offers. */
  readonly kernels: readonly StageKernel[] | null;
  /** Whether slots of finished sequences stay as reusable prefixes. */
  readonly prefixReuse: boolean;
  /** Whether prompts leave at the model's prompt exit; absent: they do. */
  readonly promptExit?: boolean;
  /** Answers that may be drafted; absent: `off`. */
  readonly speculate?: Speculate;
  /** Folder of cached costs; absent: the engine measures them at every start. */
  readonly cacheDir?: string;
}
