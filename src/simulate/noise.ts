/**
 * What a shared machine does to the time of a step: each takes a little more or less, and now and then all of them
 * take longer for a while.
 *
 * Knows: milliseconds. Must not know: what a step does.
 */

export interface Noise {
  /** Standard deviation of the logarithm of a step's time: 0.2 is about 20%. */
  readonly step: number;
  /** Mean seconds between two slow spells; 0 for none. */
  readonly spellEveryS: number;
}

/** A slow spell lasts that long, ms, and makes steps that many times as long. */
const SPELL_MS = { least: 500, most: 2000 };
const SPELL_FACTOR = 2;

/**
 * @param random numbers in [0, 1)
 * @returns what a step really takes that should take `ms` and begins at `now`; instants must not fall from call to call
 */
export function noisy({ step, spellEveryS }: Noise, random: () => number): (ms: number, now: number) => number {
  const gauss = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const pause = (): number => (spellEveryS > 0 ? -Math.log(1 - random()) * spellEveryS * 1000 : Infinity);
  let begins = pause();
  let ends = 0;
  return (ms, now) => {
    while (now >= begins) {
      ends = begins + SPELL_MS.least + random() * (SPELL_MS.most - SPELL_MS.least);
      begins = ends + pause();
    }
    // Mean 1, so that noise alone doesn't make the machine slower.
    const factor = step > 0 ? Math.exp(step * gauss() - (step * step) / 2) : 1;
    return ms * factor * (now < ends ? SPELL_FACTOR : 1);
  };
}
