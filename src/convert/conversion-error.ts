/** Errors of a conversion. Every fault that the caller can fix is a ConvertError. */

/** A fault of a file: of the source, or of one that an option names. */
export class ConvertError extends Error {
  override readonly name = 'ConvertError';
  /** Whether the fault is in the command line. */
  readonly isUsage: boolean = false;
}

/** A fault of the command line. */
export class UsageError extends ConvertError {
  override readonly isUsage = true;
}

/** The output folder exists, and must not be replaced. */
export class OutExistsError extends UsageError {}
