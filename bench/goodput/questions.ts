/** The questions of bench:goodput: the everyday requests that are held out, or a file without checks. */
import { readQuestions } from '../../src/load/questions.js';
import { seeded } from '../../src/util/random.js';
import { isChecked, readRequests, REQUESTS } from '../everyday/requests.js';
import { type Question, shuffled } from './job.js';

/** Seed of the sample, the same for all runs. */
const SAMPLE_SEED = 7;

/** The checked requests of the held-out half. */
export function checkedQuestions(): Question[] {
  return readRequests(REQUESTS)
    .filter(isChecked)
    .filter(({ half }) => half === 'held-out')
    .map((check) => ({ text: check.request, check }));
}

/** A random sample of a file's questions, without regard to their answers. @param most questions of the sample */
export function sampledQuestions(file: string, most: number): Question[] {
  return shuffled(readQuestions(file), seeded(SAMPLE_SEED))
    .slice(0, most)
    .map((text) => ({ text, check: null }));
}
