/** Errors of a conversion. Every fault that the caller can fix is a ConvertError. */

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

/** Codes of faults in the command line; the other codes are faults in a file. */
const WRONG_USAGE: readonly ConvertErrorCode[] = ['bad_option', 'bad_exits', 'out_exists'];

export class ConvertError extends Error {
  override readonly name = 'ConvertError';
  /** Whether the fault is in the command line. */
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
