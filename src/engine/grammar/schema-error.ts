/** A schema that is none; the message is meant for the caller. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';

  constructor(
    message: string,
    /** Index of the function whose schema it is, where it is known. */
    readonly part: number | null = null,
  ) {
    super(message);
  }
}
