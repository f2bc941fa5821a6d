/** Why a request gets no constraint. */

/** The grammar is invalid or unsupported; the message is meant for the client. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';

  constructor(
    message: string,
    /**
     * Index of the function whose schema has the fault, or their number for the schema of an answer without calls. Null
     * if the fault concerns the whole grammar.
     */
    readonly part: number | null = null,
  ) {
    super(message);
  }
}

/** The thread was lost, whatever the grammar. The message may describe this machine: it is for the log. */
export class GrammarsLost extends Error {
  override readonly name = 'GrammarsLost';

  constructor(why: string) {
    super(`the grammar thread was lost: ${why}`);
  }
}

/** The request ended before its grammar was open. */
export class GrammarAbandoned extends Error {
  override readonly name = 'GrammarAbandoned';
}
