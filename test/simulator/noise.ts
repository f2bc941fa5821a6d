/** Noise of a shared machine: every step varies a little, and slow spells lengthen all steps for a while. */

export interface Noise {
  /** Standard deviation of the logarithm of a step's time: 0.2 is about 20%. */
  readonly step: number;
  /** Mean seconds between two slow spells; 0 for none. */
  readonly spellEveryS: number;
}

/** Duration of a slow spell in ms, and its factor on the time of a step. */
const SPELL_MS = { least: 500, most: 2000 };
const SPELL_FACTOR = 2;

/**
 * @param random numbers in [0, 1)
 * @returns the noisy time of a step of `ms` that begins at `now`; `now` must not decrease from call to call
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
    // The mean is 1, so that the noise alone does not slow the machine down.
    const factor = step > 0 ? Math.exp(step * gauss() - (step * step) / 2) : 1;
    return ms * factor * (now < ends ? SPELL_FACTOR : 1);
  };
}
