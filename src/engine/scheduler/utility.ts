/**
 * The utility of an answer: the share of full depth's right answers that its exit gives (accuracy), times the share
 * that an early end keeps (partial value).
 */
import { type DepthShape, type ExitIndex, at } from './cost/model.js';
import { interpolated, accuracyBehind } from '../model/accuracy.js';

/** [tokens, share of the whole answers' worth that answers of at most so many tokens keep], both rising. */
export type PartialValue = readonly (readonly [number, number])[];

/** Without a measurement: that of the embedded model on everyday requests. */
const DEFAULT_PARTIAL_VALUE: PartialValue = [
  [4, 0.05],
  [8, 0.25],
  [16, 0.55],
  [24, 0.7],
  [32, 0.79],
  [48, 0.88],
  [64, 0.92],
  [96, 0.96],
  [160, 0.99],
  [320, 1],
];

export class Utility {
  readonly #partialValue: PartialValue;
  readonly #accuracy: readonly number[];
  /** By exit; undefined where the prompt's length has no measurement. */
  readonly #byPrompt: readonly (DepthShape['exits'][number]['accuracyByPrompt'] | undefined)[];

  constructor({ exits }: DepthShape, partialValue: PartialValue | null) {
    this.#partialValue = partialValue ?? DEFAULT_PARTIAL_VALUE;
    this.#accuracy = exits.map(({ accuracy }) => accuracy);
    this.#byPrompt = exits.map(({ accuracyByPrompt }) => accuracyByPrompt);
  }

  /**
   * Share of full depth's right answers that an exit gives, 0..1.
   * @param promptTokens length of the prompt; one below all measured lengths counts as the shortest of them
   */
  accuracy(exit: ExitIndex, promptTokens = 0): number {
    const accuracyByPrompt = this.#byPrompt[exit];
    return accuracyByPrompt === undefined
      ? at(this.#accuracy, exit)
      : accuracyBehind({ accuracyByPrompt }, promptTokens);
  }

  /**
   * The shallowest exit between two that gives at least a share of full depth's right answers behind a prompt. Without
   * a measurement by length it is the first of the two.
   */
  shallowest(from: ExitIndex, to: ExitIndex, least: number, promptTokens: number): ExitIndex {
    let exit = from;
    while (exit < to && this.#byPrompt[exit] !== undefined && this.accuracy(exit, promptTokens) < least) exit += 1;
    return exit;
  }

  /** Share of an answer's worth that at most so many tokens keep, 0..1. */
  partialValue(tokens: number): number {
    return interpolated(this.#partialValue, tokens);
  }
}
