/**
 * Makes a model folder of a shape, with exits at half and full depth. It runs in a process of its own, because a
 * conversion takes the event loop. The source stays as OUT.source, for other servers. Usage: make.js SHAPE KERNEL OUT
 */
import { join } from 'node:path';
import { packageRoot } from '../../src/config.js';
import { convert } from '../../src/convert/convert.js';
import { SHAPES, type ShapeName, writeSource } from './shapes.js';

const [name = '', kernel = '', out = ''] = process.argv.slice(2);
if (!(name in SHAPES)) throw new Error(`SHAPE must be one of ${Object.keys(SHAPES).join(', ')}, got "${name}"`);
if (kernel !== 'fp16' && kernel !== 'fp32') throw new Error(`KERNEL must be fp16 or fp32, got "${kernel}"`);
const shape = name as ShapeName;
const source = `${out}.source`;
const { layers } = SHAPES[shape];
writeSource(source, shape, join(packageRoot, 'models/smollm2-135m-sorted'));
await convert({
  source,
  out,
  exits: [layers / 2, layers],
  kernels: [kernel],
  compress: false,
  force: true,
  name: shape,
});
