/** The trace of the fake CUDA libraries: lines between marks, counted by kind. */
import { readFileSync } from 'node:fs';
import type { MemoryPlan } from '../../src/engine/model/memory-plan.js';

export interface Section {
  /** The mark that begins it. */
  readonly mark: string;
  readonly lines: readonly string[];
}

export function readTrace(file: string): Section[] {
  const sections: { mark: string; lines: string[] }[] = [{ mark: 'load', lines: [] }];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line.startsWith('mark ')) sections.push({ mark: line.slice(5), lines: [] });
    else if (line !== '') sections.at(-1)?.lines.push(line);
  }
  return sections;
}

/** Lines that begin with a word, such as `unordered`, `alloc` or `copy H2D`. */
export function linesOf(sections: readonly Section[], start: string): string[] {
  return sections.flatMap(({ lines }) => lines.filter((line) => line === start || line.startsWith(`${start} `)));
}

/** Bytes of the card that a process took in sections, and those of the plan that it printed. */
export function memoryOf(sections: readonly Section[], stdout: string): { taken: number; planned: number } {
  const taken = linesOf(sections, 'alloc').reduce((sum, line) => sum + Number(line.split(' ')[1]), 0);
  const { plan = null } = JSON.parse(stdout || '{}') as { plan?: MemoryPlan };
  return { taken, planned: plan === null ? NaN : plan.weights + plan.kv + plan.scratch };
}

/** A kernel of a step: the names of its function that C++ joins, and the blocks of its grid. */
export interface Kernel {
  /** Such as `flash flash_fwd_splitkv_kernel Flash_fwd_kernel_traits`, or a function of cuBLAS. */
  readonly name: string;
  readonly grid: readonly [x: number, y: number, z: number];
}

/** The kernels that sections launched, or that a captured graph of them holds. @param trace the whole trace */
export function kernelsOf(trace: readonly Section[], sections: readonly Section[]): Kernel[] {
  const names = new Map(
    linesOf(trace, 'name').map((line) => {
      const [, number = '', name = ''] = line.split(' ');
      return [number, plainName(name)];
    }),
  );
  return [...linesOf(sections, 'kernel'), ...linesOf(sections, 'captured kernel')].map((line) => {
    const [number = '', grid = ''] = line.split(' ').slice(-2);
    const [x = 0, y = 0, z = 0] = grid.split('x').map(Number);
    return { name: names.get(number) ?? number, grid: [x, y, z] };
  });
}

/** The words of a mangled C++ name, without the namespaces that all kernels share. */
function plainName(mangled: string): string {
  if (!mangled.startsWith('_Z')) return mangled;
  const words: string[] = [];
  for (let at = 2; at < mangled.length;) {
    const length = /^\d+/.exec(mangled.slice(at))?.[0];
    if (length === undefined) {
      at++;
      continue;
    }
    at += length.length;
    const word = mangled.slice(at, at + Number(length));
    at += Number(length);
    if (!SHARED.test(word) && !words.includes(word)) words.push(word);
  }
  return words.join(' ');
}

const SHARED = /^(onnxruntime|contrib|cuda|kernels|llm|detail|_GLOBAL__N.*|std|cutlass|\w*_cu_\w*)$|^$/;
