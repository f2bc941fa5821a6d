/** The engine's time of promises, as gateway and engine add it up. */

/** Engine time of the prompt at the shallowest exit, and of the tokens that a promise covers, ms. */
export interface PromisedWork {
  /** Of the prompt alone. */
  readonly prefillMs: number;
  /** Of both, as a share of steps that have a row in every slot. */
  readonly fullMs: number;
  /** The delay by each further row that decodes beside it. */
  readonly besideMs: number;
}

/** The part of a promise in the engine's time. Instants are on the monotonic clock, times in ms. */
export interface PromisedPart extends PromisedWork {
  /** The end of its sentence, at the latest. */
  readonly dueAt: number;
  /** Of its prompt and its sentence, beside the promises of that moment. */
  readonly sentenceMs: number;
}

/** The same of a net's request, with the parts of promises to requests of no net. */
export interface NetWork extends PromisedWork {
  readonly direct: readonly PromisedPart[];
}
