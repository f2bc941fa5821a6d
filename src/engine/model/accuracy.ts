/** The accuracy of an exit by the length of the prompt. Pure. */

/** [x, y], x rising. */
export type Points = readonly (readonly [number, number])[];

/** Points of a curve that rises in straight lines from 0 at 0, and is flat behind the last one. */
export function interpolated(points: Points, x: number): number {
  let x0 = 0;
  let y0 = 0;
  for (const [x1, y1] of points) {
    if (x <= x1) return x1 > x0 ? y0 + ((y1 - y0) * Math.max(0, x - x0)) / (x1 - x0) : y1;
    [x0, y0] = [x1, y1];
  }
  return y0;
}

export interface MeasuredAccuracy {
  /** Share of full depth's right answers, 0 to 1; absent: unmeasured, and all of them. */
  readonly accuracy?: number;
  /** The same share behind prompts of so many tokens; absent: `accuracy` behind all. */
  readonly accuracyByPrompt?: Points;
}

/** @param promptTokens a length below all measured ones counts as the shortest of them */
export function accuracyBehind(
  { accuracy = 1, accuracyByPrompt = [] }: MeasuredAccuracy,
  promptTokens: number,
): number {
  const [shortest] = accuracyByPrompt;
  return shortest === undefined ? accuracy : interpolated(accuracyByPrompt, Math.max(promptTokens, shortest[0]));
}
