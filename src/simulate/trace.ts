/**
 * Request traces in the public format of the Azure LLM inference traces: TIMESTAMP,ContextTokens,GeneratedTokens.
 *
 * Knows: the text format. Must not know: files, budgets.
 */

export interface TraceEntry {
  /** Since the first entry. */
  readonly atMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

const HEADER = 'TIMESTAMP,ContextTokens,GeneratedTokens';
const LINE = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?,(\d+),(\d+)$/;

/** A trace that can't be read; the message names line and rule. */
export class TraceError extends Error {
  override readonly name = 'TraceError';
}

/** Entries by rising time. @throws TraceError */
export function parseTrace(text: string): TraceEntry[] {
  const lines = text.split(/\r?\n/);
  if (lines[0]?.replace(/^\uFEFF/, '') !== HEADER) {
    throw new TraceError(`line 1 of the trace must be "${HEADER}", not "${(lines[0] ?? '').slice(0, 80)}"`);
  }
  const entries: TraceEntry[] = [];
  lines.forEach((line, i) => {
    if (i === 0 || line === '') return;
    const match = LINE.exec(line);
    const seconds = match === null ? NaN : Date.parse(`${match[1] ?? ''}T${match[2] ?? ''}Z`);
    if (match === null || Number.isNaN(seconds)) {
      throw new TraceError(`line ${i + 1} of the trace must be "time,tokens,tokens", not "${line.slice(0, 80)}"`);
    }
    const [promptTokens, outputTokens] = [Number(match[4]), Number(match[5])];
    if (promptTokens < 1) throw new TraceError(`line ${i + 1} of the trace: ContextTokens must be at least 1`);
    entries.push({ atMs: seconds + Number(`0.${match[3] ?? '0'}`) * 1000, promptTokens, outputTokens });
  });
  if (entries.length === 0) throw new TraceError('the trace must have at least one request');
  entries.sort((a, b) => a.atMs - b.atMs);
  const origin = entries[0]?.atMs ?? 0;
  return entries.map((entry) => ({ ...entry, atMs: entry.atMs - origin }));
}
