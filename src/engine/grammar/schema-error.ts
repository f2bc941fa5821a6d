/** An invalid or unsupported schema; the message is meant for the client. */
export class SchemaError extends Error {
  override readonly name = 'SchemaError';

  constructor(
    message: string,
    /** Index of the function that has the schema, if it is known. */
    readonly part: number | null = null,
  ) {
    super(message);
  }
}
