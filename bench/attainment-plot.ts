/** `node dist/bench/attainment-plot.js`: draws docs/img/attainment.svg from the results table of docs/router.md. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/config.js';
import { attainmentPlot } from './planner/attainment-plot.js';

const folder = join(packageRoot, 'docs', 'img');
mkdirSync(folder, { recursive: true });
const table = readFileSync(join(packageRoot, 'docs', 'router.md'), 'utf8');
writeFileSync(join(folder, 'attainment.svg'), attainmentPlot(table));
