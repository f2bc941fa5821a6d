/** The trace of the fake CUDA libraries: lines between marks, counted by kind. */
import { readFileSync } from 'node:fs';

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
