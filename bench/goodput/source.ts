/** Sources of the bench's jobs: questions of natural length, or the stated lengths of a trace. */
import { readFileSync } from 'node:fs';
import type { Manifest } from '../../src/model/manifest.js';
import { parseTrace } from '../../src/load/trace.js';
import { readQuestions } from '../../src/load/questions.js';
import type { Job } from './job.js';
import { idleQuestions, naturalJobs } from './natural.js';
import type { Idle } from './record.js';
import { idleClasses, statedJobs } from './stated.js';

export interface Source {
  /** Measures full depth on the idle server. @param deepest exit layer of full depth */
  readonly measure: (url: string, manifest: Manifest, deepest: number) => Promise<Idle>;
  /** The first jobs, the same for every side. */
  readonly jobs: (idle: Idle, manifest: Manifest, limit: number) => Job[];
}

/** @param keep most questions of the file to keep */
export function naturalSource(file: string, keep: number, seed: number): Source {
  const lengths = 'natural';
  const questions = readQuestions(file);
  return {
    measure: async (url, { name }, deepest) => ({
      lengths,
      questions: await idleQuestions(url, name, deepest, questions, keep),
    }),
    jobs: (idle, _, limit) => (idle.lengths === lengths ? naturalJobs(idle.questions, limit, seed) : []),
  };
}

/** @param scale factor on the trace's lengths */
export function statedSource(file: string, scale: number, seed: number): Source {
  const lengths = 'stated';
  const trace = parseTrace(readFileSync(file, 'utf8'));
  return {
    measure: async (url, { name, architecture }, deepest) => ({
      lengths,
      classes: await idleClasses(url, name, deepest, architecture),
    }),
    jobs: (idle, { architecture }, limit) =>
      idle.lengths === lengths ? statedJobs(trace, idle.classes, architecture, { limit, scale, seed }) : [],
  };
}
