/**
 * Makes a model folder of a real shape with random weights, with exits at half and full depth, or at every loop. The source
 * stays as OUT.source, for other servers. Usage:
 * node dist/bench/make-shape.js SHAPE OUT KERNEL...; the first kernel's folder is OUT, and others are OUT-KERNEL
 */
import { join } from 'node:path';
import { packageRoot } from '../src/cli/options/config.js';
import { convert } from '../src/convert/convert.js';
import { SHAPES, type ShapeName, writeSource } from './shapes.js';

const [name = '', out = '', ...kernels] = process.argv.slice(2);
if (!(name in SHAPES)) throw new Error(`SHAPE must be one of ${Object.keys(SHAPES).join(', ')}, got "${name}"`);
const shape = name as ShapeName;
const source = `${out}.source`;
const { layers, loops = null }: { readonly layers: number; readonly loops?: number | null } = SHAPES[shape];
writeSource(source, shape, join(packageRoot, 'models/smollm2-135m-sorted'));
for (const [i, text] of kernels.entries()) {
  const kernel = (['fp16', 'fp32', 'w4a16', 'w8a8'] as const).find((each) => each === text);
  if (kernel === undefined) throw new Error(`KERNEL must be fp16, fp32, w4a16 or w8a8, got "${text}"`);
  const to = i === 0 ? out : `${out}-${kernel}`;
  const exits = loops === null ? [layers / 2, layers] : Array.from({ length: loops }, (_, i) => i + 1);
  await convert({ source, out: to, exits, kernels: [kernel], compress: false, force: true, name: shape });
}
