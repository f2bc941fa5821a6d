/** One answer of a chat: streams its text, and says its depth and its time. */
import { performance } from 'node:perf_hooks';
import { RemoteError } from '../../bench/remote/server-error.js';
import type { RemoteServer } from '../../bench/remote/server.js';
import { type Part, type SortieReport, streamAnswer } from '../../bench/remote/stream.js';
import type { Abilities } from './commands.js';
import type { ChatSession } from './session.js';
import { printable, type Style } from './style.js';
import { WordWrap } from './wrap.js';

export interface Facts {
  readonly tokens: number;
  /** Times in ms as the client sees them; the first is null without a token. */
  readonly firstMs: number | null;
  readonly totalMs: number;
  readonly exits: Readonly<Record<string, number>> | null;
  readonly report: SortieReport | null;
  readonly budgetMs: number | null;
  /** The answer reached a limit of its length. */
  readonly isCut: boolean;
}

export interface Finished {
  readonly text: string;
  /** The facts of the answer in one line; the error of a failed one. */
  readonly note: string;
  readonly isFailed: boolean;
}

export interface ChatServer extends Abilities {
  readonly server: RemoteServer;
  readonly model: string;
}

export interface AnswerOutput {
  readonly write: (text: string) => void;
  readonly style: Style;
  /** Whether the reader sees thoughts and depth: a terminal. */
  readonly isTerminal: boolean;
  /** Columns of the terminal at that moment; null for a pipe. */
  readonly columns?: (() => number) | null;
}

/** Before the first part. */
const NO_FACTS = { tokens: 0, firstMs: null, totalMs: 0, exits: null, report: null, isCut: false } as const;

/** Streams an answer. @param signal cancels it; the text so far stays in the conversation */
export async function streamTurn(
  chat: ChatServer,
  session: ChatSession,
  question: string,
  { write, style, isTerminal, columns = null }: AnswerOutput,
  signal: AbortSignal,
): Promise<Finished> {
  const startedAt = performance.now();
  const elapsed = (): number => performance.now() - startedAt;
  const depths = new DepthReader(chat.exits);
  const wrap = columns === null ? null : new WordWrap(write, columns);
  const show = (shown: string, styled: (text: string) => string): void => {
    if (shown === '') return;
    if (wrap === null) write(styled(shown));
    else wrap.add(shown, styled);
  };
  let text = '';
  let events = 0;
  let facts: Facts = { ...NO_FACTS, budgetMs: session.budgetMs };
  try {
    const headers = chat.isSortie ? session.headers() : {};
    const asking = { headers, signal, countsEachPart: chat.isSortie && isTerminal };
    for await (const part of streamAnswer(chat.server, chat.model, session.asked(question), asking)) {
      if (part.hasOutput) events++;
      const firstMs = facts.firstMs ?? (part.hasOutput ? elapsed() : null);
      facts = { ...facts, firstMs, ...endOf(part, facts), tokens: part.tokens ?? Math.max(facts.tokens, events) };
      if (isTerminal && part.thoughts !== '') show(printable(part.thoughts), style.thoughts);
      const position = depths.position(part.exits);
      show(printable(part.text), (shown) => style.depth(shown, position));
      text += part.text;
    }
    wrap?.flush();
    session.add(question, text);
    return { text, isFailed: false, note: noteOf({ ...facts, totalMs: elapsed() }) };
  } catch (error) {
    wrap?.flush();
    if (!(error instanceof RemoteError)) throw error;
    if (error.kind === 'cancelled') {
      session.add(question, text);
      return { text, isFailed: false, note: `cancelled · ${noteOf({ ...facts, budgetMs: null, totalMs: elapsed() })}` };
    }
    return { text, isFailed: true, note: error.message };
  }
}

function endOf(part: Part, facts: Facts): Pick<Facts, 'exits' | 'report' | 'isCut'> {
  return {
    exits: part.exits ?? facts.exits,
    report: part.report ?? facts.report,
    isCut: facts.isCut || part.finishReason === 'length',
  };
}

/** Finds the depth of each part from the running totals of tokens by exit. */
class DepthReader {
  #known: Readonly<Record<string, number>> = {};
  #last: number | null = null;
  readonly #exits: readonly number[];

  constructor(exits: readonly number[]) {
    this.#exits = exits;
  }

  /** @returns 0 at the shallowest exit to 1 at the deepest; null if unknown */
  position(totals: Readonly<Record<string, number>> | null): number | null {
    if (totals === null || this.#exits.length < 2) return this.#last;
    const grown = Object.keys(totals).filter((layer) => (totals[layer] ?? 0) > (this.#known[layer] ?? 0));
    this.#known = totals;
    const index = this.#exits.indexOf(Number(grown.at(-1)));
    if (index >= 0) this.#last = index / (this.#exits.length - 1);
    return this.#last;
  }
}

const CLASSES = { guaranteed: 'guaranteed', best_effort: 'best effort', none: '' } as const;

/** Why an answer began below the deepest exit that its request allows. */
const SHALLOW = {
  deepest: '',
  budget: 'shallow for its budget',
  load: 'shallow for other requests',
  thoughts: 'shallow thoughts',
} as const;

const duration = (ms: number): string => (ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Depth and time of an answer in one line. */
export function noteOf({ tokens, firstMs, totalMs, exits, report, budgetMs, isCut }: Facts): string {
  const layers = Object.entries(exits ?? {}).sort(([a], [b]) => Number(b) - Number(a));
  const depth =
    layers.length > 1
      ? [`exits ${layers.map(([layer, count]) => `${layer}: ${count}`).join(', ')}`]
      : layers.map(([layer]) => `exit ${layer}`);
  const { plan, source } = report ?? {};
  const shallow = plan?.reason == null ? '' : SHALLOW[plan.reason];
  const serviceClass = plan === undefined ? '' : CLASSES[plan.service_class];
  const isLanded = report?.outcome === 'landed' || (source !== undefined && report?.landed != null);
  const met = report?.met ?? totalMs <= (budgetMs ?? Infinity);
  const budget = budgetMs === null ? [] : [`budget ${duration(budgetMs)} ${met ? 'met' : 'missed'}`];
  return [
    ...depth,
    ...(shallow === '' ? [] : [shallow]),
    `${tokens} ${tokens === 1 ? 'token' : 'tokens'} in ${duration(totalMs)}`,
    ...(firstMs === null ? [] : [`first after ${duration(firstMs)}`]),
    ...budget,
    ...(source === 'local' ? ['by the local model'] : []),
    ...(isLanded ? ['landed'] : []),
    ...(serviceClass === '' ? [] : [serviceClass]),
    ...(isCut && !isLanded ? [`cut at ${budgetMs === null ? '' : 'its deadline or '}the longest length`] : []),
  ].join(' · ');
}
