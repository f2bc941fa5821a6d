/**
 * Reads request traces: the public format of the Azure LLM inference traces (TIMESTAMP,ContextTokens,GeneratedTokens),
 * or the server's own log.
 */
import { isValid, Type } from '../../src/util/schema.js';
import type { Budget } from './budgets.js';

export interface TraceEntry {
  /** Time since the first entry. */
  readonly atMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** The budget in a log, null for a request without one; absent where the trace does not say. */
  readonly budget?: Budget | null;
}

/** Whether the budgets of a trace are known: it is a log, and at least one of its requests states a budget. */
export function hasBudgets(trace: readonly TraceEntry[]): boolean {
  return trace.some(({ budget }) => budget !== undefined && budget !== null);
}

/** The latest instant of Date in ms; sums of smaller numbers are exact enough. */
const LAST_MS = 8.64e15;

const Ms = Type.Number({ exclusiveMinimum: 0, maximum: LAST_MS });

/** Log line of an answered completion (gateway/http/request-log.ts); `time` is the instant of its last byte, in ms. */
const AnsweredLine = Type.Object({
  msg: Type.Literal('request'),
  time: Type.Number({ minimum: 0, maximum: LAST_MS }),
  ms: Type.Number({ minimum: 0, maximum: LAST_MS }),
  prompt_tokens: Type.Integer({ minimum: 1 }),
  completion_tokens: Type.Integer({ minimum: 0 }),
  // A cancelled answer has no budget to keep, and its tokens are a part.
  cancelled: Type.Optional(Type.Literal(false)),
  sortie: Type.Optional(
    Type.Object({
      budget_ms: Type.Optional(Ms),
      slo_ttft_ms: Type.Optional(Ms),
      slo_tpot_ms: Type.Optional(Ms),
    }),
  ),
});

const HEADER = 'TIMESTAMP,ContextTokens,GeneratedTokens';
const LINE = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|\+00:00)?,(\d+),(\d+)$/;

/** An unreadable trace; the message names the line and the rule. */
export class TraceError extends Error {
  override readonly name = 'TraceError';
}

/** Entries in order of time. A file with lines of JSON is a log; any other file is a CSV. @throws TraceError */
export function parseTrace(file: string): TraceEntry[] {
  // Editors write a byte order mark before either format.
  const text = file.replace(/^\uFEFF/, '');
  const entries = /^\{/m.test(text) ? logEntries(text) : csvEntries(text);
  if (entries.length === 0) throw new TraceError('the trace must have at least one request');
  entries.sort((a, b) => a.atMs - b.atMs);
  const origin = entries[0]?.atMs ?? 0;
  return entries.map((entry) => ({ ...entry, atMs: entry.atMs - origin }));
}

function csvEntries(text: string): TraceEntry[] {
  const lines = text.split(/\r?\n/);
  if (lines[0] !== HEADER) {
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
    const promptTokens = Number(match[4]);
    const outputTokens = Number(match[5]);
    if (promptTokens < 1) throw new TraceError(`line ${i + 1} of the trace: ContextTokens must be at least 1`);
    entries.push({ atMs: seconds + Number(`0.${match[3] ?? '0'}`) * 1000, promptTokens, outputTokens });
  });
  return entries;
}

/** One entry per answered completion, at its arrival. Other lines, and an incomplete last line, are left out. */
function logEntries(text: string): TraceEntry[] {
  return text.split('\n').flatMap((line) => {
    const entry = jsonOf(line);
    if (!isValid(AnsweredLine, entry)) return [];
    const { time, ms, prompt_tokens: promptTokens, completion_tokens: outputTokens, sortie } = entry;
    const atMs = time - ms;
    if (sortie === undefined) return [{ atMs, promptTokens, outputTokens }];
    const { budget_ms: totalMs = null, slo_ttft_ms: ttftMs = null, slo_tpot_ms: tpotMs = null } = sortie;
    const hasBudget = totalMs !== null || ttftMs !== null || tpotMs !== null;
    return [{ atMs, promptTokens, outputTokens, budget: hasBudget ? { totalMs, ttftMs, tpotMs } : null }];
  });
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}
