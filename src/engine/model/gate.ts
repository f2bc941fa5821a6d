/**
 * The gate of a looped model: from the state at a loop's end, the probability to stop there. Its file holds the weights
 * and then the bias, in floats of 32 bits.
 *
 * Must not know: sequences, devices.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from './manifest.js';

export interface Gate {
  /** The probability to stop at a state [H], unless an earlier loop stopped. */
  stop(state: Float32Array): number;
}

/** The gate of a folder; null for a model without one. @throws Error if its file has another size */
export function loadGate(dir: string, { gate, architecture }: Manifest): Gate | null {
  if (gate === undefined) return null;
  const bytes = readFileSync(join(dir, gate));
  const { hidden } = architecture;
  if (bytes.length !== 4 * (hidden + 1))
    throw new Error(`${join(dir, gate)} must hold ${hidden + 1} floats, got ${bytes.length} bytes`);
  const floats = new Float32Array(Uint8Array.from(bytes).buffer);
  return {
    stop(state) {
      let sum = floats[hidden] ?? NaN;
      for (let i = 0; i < hidden; i++) sum += (floats[i] ?? NaN) * (state[i] ?? NaN);
      return 1 / (1 + Math.exp(-sum));
    },
  };
}
