/** Answers under a schema for bench:phases: texts with facts, and the objects that hold them. Must not know: models. */

/** Keys whose values are numbers or one of a few words. */
export const DEEP_KEYS = ['age', 'contract', 'city', 'salary'] as const;

const NAMES = 'Maria,Ahmed,Julia,Pedro,Keiko,Thomas,Fatima,Ivan,Laura,Chen'.split(',');
const JOBS = 'nurse,baker,teacher,plumber,pilot,chemist,gardener'.split(',');
const CITIES = ['Paris', 'Lima', 'Oslo', 'Cairo', 'Tokyo'];
const CONTRACTS = ['full-time', 'part-time', 'seasonal'];

export const SCHEMA = JSON.stringify({
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 30 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    job: { type: 'string', minLength: 1, maxLength: 40 },
    contract: { enum: CONTRACTS },
    city: { enum: CITIES },
    salary: { type: 'integer', minimum: 0, maximum: 1_000_000 },
    summary: { type: 'string', minLength: 20, maxLength: 60 },
  },
  required: ['name', 'age', 'job', 'contract', 'city', 'salary', 'summary'],
  additionalProperties: false,
});

export interface Facts {
  readonly question: string;
  readonly values: Readonly<Record<(typeof DEEP_KEYS)[number], string | number>>;
  readonly names: Readonly<Record<'name' | 'job', string>>;
}

/** The i-th text, the same in every run. */
export function factsOf(i: number): Facts {
  const of = (list: readonly string[], step: number): string => list[(i * step + (i >> 2)) % list.length] ?? '';
  const [name, job, city, contract] = [of(NAMES, 3), of(JOBS, 5), of(CITIES, 2), of(CONTRACTS, 1)];
  const [age, salary] = [19 + ((i * 17) % 47), 21_000 + ((i * 7919) % 60_000)];
  const text = `${name} is ${age} years old and works as a ${job} in ${city}. The contract is ${contract}, and the salary is ${salary} a year.`;
  const question = `${text}\n\nWrite a JSON object with the keys name, age, job, contract, city, salary and summary.`;
  return { question, values: { age, contract, city, salary }, names: { name, job } };
}

/** Share of the keys whose value is that of the text, whatever its case; 0 for text that is no object. */
export function rightShare(expected: Readonly<Record<string, string | number>>, text: string): number {
  let found: Record<string, unknown>;
  try {
    found = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return 0;
  }
  const isRight = ([key, value]: readonly [string, string | number]): boolean =>
    String(found[key]).toLowerCase() === String(value).toLowerCase();
  const all = Object.entries(expected);
  return all.filter(isRight).length / all.length;
}
