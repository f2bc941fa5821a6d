/**
 * What can be wrong with a conversion's input. Every failure that is the caller's to fix is a ConvertError.
 *
 * Knows: nothing of formats. Must not know: how errors are printed (command).
 */

export type ConvertErrorCode =
  | 'bad_option'
  | 'unsupported_architecture'
  | 'unsupported_feature'
  | 'missing_tensor'
  | 'wrong_shape'
  | 'not_finite'
  | 'unknown_dtype'
  | 'truncated_file'
  | 'bad_source'
  | 'bad_exits'
  | 'out_exists';

/** What is wrong with the command line, not with a file's content. */
const WRONG_USAGE: readonly ConvertErrorCode[] = ['bad_option', 'bad_exits', 'out_exists'];

export class ConvertError extends Error {
  override readonly name = 'ConvertError';
  /** Whether the caller has to write another command line. */
  get isUsage(): boolean {
    return WRONG_USAGE.includes(this.code);
  }

  constructor(
    readonly code: ConvertErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** The process was told to end in mid-conversion; nothing of the output is left. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  constructor(readonly signal: NodeJS.Signals) {
    super(`ended by ${signal}; nothing was written`);
  }
}
