/** The machine that bench:gpu needs, checked before the bench takes minutes. */
import { statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Card } from './card.js';
import { SHAPES, type ShapeName } from './shapes.js';

const LEAST_CUDA = 13;
/** The source in bf16, and folders in f16 and 4 bits. */
const BYTES_PER_WEIGHT = 2 + 2 + 0.7;
const GIB = 2 ** 30;

/** Sentences about what is missing; none if the bench may start. @param card null for a dry run on the CPU */
export function missing(card: Card | null, sizes: readonly ShapeName[]): string[] {
  const weights = sizes.map(weightsOf);
  const disk = BYTES_PER_WEIGHT * weights.reduce((a, b) => a + b, 0);
  const { bavail, bsize } = statfsSync(tmpdir());
  const found: string[] = [];
  if (bavail * bsize < disk)
    found.push(
      `the models take ${gib(disk)} in ${tmpdir()}, which has ${gib(bavail * bsize)} free; set TMPDIR or --sizes`,
    );
  if (card === null) return found;
  if (card.cuda < LEAST_CUDA)
    found.push(`the driver supports CUDA ${card.cuda}, and the provider needs CUDA ${LEAST_CUDA}: driver 580 or later`);
  // The weights, and a KV cache and scratch of some 4 GiB.
  const need = 2 * Math.max(...weights) + 4 * GIB;
  if (card.memoryMib * 2 ** 20 < need)
    found.push(
      `the largest model takes ${gib(need)}, and the card has ${gib(card.memoryMib * 2 ** 20)}; lower --sizes`,
    );
  return found;
}

function weightsOf(size: ShapeName): number {
  const { layers, hidden, heads, kvHeads, headDim, ffn } = SHAPES[size];
  return layers * hidden * (2 * (heads + kvHeads) * headDim + 3 * ffn) + 49_152 * hidden;
}

const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`;
