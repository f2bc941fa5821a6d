/** The cases that a property gets: the core runs a fifth of `count`, `npm run test:all` runs all. */
export function cases(count: number): number {
  return Math.ceil(count * Number(process.env.SORTIE_TEST_CASES ?? 1));
}
