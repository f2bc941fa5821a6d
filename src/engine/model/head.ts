/** The results of a model's head that sampling reads, for either layout of the KV cache. */

/** Views of one row, valid until the next `choose`. */
export interface SelectedRow {
  /** The K largest logits, in descending order. */
  readonly values: Float32Array;
  readonly ids: BigInt64Array;
  /** log-sum-exp of all logits (`lse`), and of all logits times the row's inverse temperature (`lseT`). */
  readonly lse: number;
  readonly lseT: number;
  /** Logit of the row's target. */
  readonly target: number;
}

export interface Head {
  /** Inverse temperatures and targets of selected rows; the caller writes them. */
  readonly inverseTemperatures: Float32Array;
  readonly targets: BigInt64Array;
  /** The most likely ids of the greedy rows of `choose`. */
  readonly argmaxIds: BigInt64Array;
  /** Lowers single logits of a row for the next `choose`. @param amounts by token id */
  applyPenalties(row: number, amounts: ReadonlyMap<number, number>): void;
  /** Finds the most likely ids of rows [0, greedy), and selects the top K of the `selected` rows behind them. */
  choose(greedy: number, selected: number): void;
  /** The result of `choose` for a selected row. */
  selected(row: number): SelectedRow;
  /**
   * Copies all logits of a row to the host, for requests that need more than the top K. The copy is valid until the
   * next call, and the caller may change it.
   */
  fullLogits(row: number): Float32Array;
}

/** An exit's hidden states of positions [start, end) of one sequence, valid until the model runs again. */
export interface States {
  readonly start: number;
  readonly end: number;
  /** Leaves the logits of positions [first, first + rows) in the head's rows. @param rows at most maxRows */
  toHead(first: number, rows: number): void;
  /** Reads the state of one position; null where reading would wait for a GPU. */
  read(position: number): Float32Array | null;
}
