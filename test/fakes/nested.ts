/** JSON that is nested deeper than JSON.stringify can write. */

type Kind = 'arrays' | 'objects';

/** Stands for a value of so many levels until `asText` writes it. */
export const nested = (depth: number, kind: Kind = 'arrays'): string => `nested ${depth} ${kind}`;

function levels(depth: number, kind: Kind): string {
  const [open, close] = kind === 'arrays' ? ['[', ']'] : ['{"a":', '}'];
  return `${open.repeat(depth)}1${close.repeat(depth)}`;
}

/** A body as JSON, with what `nested` stands for. */
export function asText(body: unknown): string {
  return JSON.stringify(body).replace(/"nested (\d+) (\w+)"/g, (_, depth, kind: Kind) => levels(Number(depth), kind));
}
