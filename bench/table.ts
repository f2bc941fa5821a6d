/** Tables in Markdown, as benches print them. */

/** @param rows the head first */
export function tableOf(rows: readonly (readonly string[])[]): string[] {
  const [head = [], ...others] = rows;
  return [head, head.map(() => '-'), ...others].map((row) => `| ${row.join(' | ')} |`);
}
