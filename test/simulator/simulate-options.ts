/** Options of a simulation, with their defaults. */

import { SERVE_OPTIONS } from '../../src/cli/options/config.js';
import type { Limits } from './workload.js';

export interface SimulateOptions {
  /** The server's own log, or a CSV in the format of the Azure LLM inference traces (trace.ts). */
  readonly trace: string;
  /** JSON with `cost` and `shape` (costs.ts). */
  readonly cost: string;
  /** Files for the report as JSON and the plot as SVG; null writes none. */
  readonly out: string | null;
  readonly plot: string | null;
  /** Arrival rates to try, as multiples of the trace's own. */
  readonly speeds: readonly number[];
  /** Factor on prompt and answer lengths. */
  readonly lengthScale: number;
  /** Most requests to take from the trace. */
  readonly limit: number;
  readonly slots: number;
  readonly kvPositions: number;
  readonly maxLength: number;
  /** Most prompt positions between two decode steps, as the server's --prefill-chunk. */
  readonly prefillChunk: number;
  /** Standard deviation of the logarithm of a step's real time, about its relative noise; 0 for none. */
  readonly noise: number;
  /** Mean seconds between spells of 0.5 to 2 s in which steps take twice as long; 0 for none. */
  readonly slowSpells: number;
  /** Time in ms that a client waits outside the engine. */
  readonly overheadMs: number;
  /** Whether requests state the exact length of their answer as max_tokens, or state none, as chat clients do. */
  readonly limits: Limits;
  /** Least quality of every request, as the server's --min-quality; null for any. */
  readonly minQuality: number | null;
  readonly seed: number;
}

export const simulateDefaults = {
  out: null,
  plot: null,
  speeds: [0.25, 0.5, 1, 2],
  lengthScale: 1,
  limit: 500,
  slots: 32,
  kvPositions: 100_000,
  maxLength: 8192,
  prefillChunk: SERVE_OPTIONS.prefillChunk.default,
  noise: 0.05,
  slowSpells: 0,
  overheadMs: 10,
  limits: 'unstated' as Limits,
  minQuality: null as number | null,
  seed: 1,
} satisfies Omit<SimulateOptions, 'trace' | 'cost'>;
