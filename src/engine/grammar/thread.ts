/**
 * The grammar thread: turns JSON schemas and calls into masks over the vocabulary, beside the engine's steps.
 *
 * Must not know: sequences' depth, budgets, logits.
 * A parser is expensive to create (a second, tens of megabytes) and cheap to reset to another grammar, so it is reused.
 * Any error that is not a fault of a grammar ends the thread; the other side (grammars.ts) starts another one. After a
 * panic, the library's memory is undefined, so no other grammar may run there.
 */
import { on } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { tokenBytes, type TokenizerJson } from '../../gateway/text/token-bytes.js';
import { CALL_BEGINS } from '../../gateway/text/tool-form.js';
import type { Grammar } from '../../protocol/index.js';
import type { Parser } from './guidance.js';
import { grammarErrorOf, libraryGrammar } from './library.js';
import type { FromGrammars, GrammarThreadData, ToGrammars } from './messages.js';

interface Session {
  readonly parser: Parser;
  readonly grammar: Grammar;
  /** Bytes until the masks are enforced. */
  left: number;
}

const port = parentPort;
if (port === null) throw new Error('this module must run as a worker thread');
say({ type: 'begun', thread: threadNumber() });
const { GuidanceParser, grammarVocabulary } = await import('./guidance.js');
const { tokenizer, end } = workerData as GrammarThreadData;
const tokens = tokenBytes(JSON.parse(readFileSync(tokenizer, 'utf8')) as TokenizerJson);
const vocabulary = grammarVocabulary(tokens, end);
// In pages of 64 KiB: 256 MiB, and half a KiB a token for each of 16 parsers. A grammar that takes more crashes the
// library, and not the machine.
setFlagsFromString(`--wasm-max-mem-pages=${4096 + (tokens.bytes.length >> 3)}`);
say({ type: 'loaded' });
const free: Parser[] = [];
const sessions = new Map<string, Session>();

// Messages run one after another: none overtakes a parser that is being created. After a crash none is read.
for await (const [message] of on(port, 'message') as AsyncIterable<[ToGrammars]>) {
  if (!(await handle(message))) break;
}

function say(message: FromGrammars, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer);
}

/** The kernel's number of this thread; null where there is no /proc. */
function threadNumber(): number | null {
  try {
    return Number(/\/task\/(\d+)$/.exec(readlinkSync('/proc/thread-self'))?.[1] ?? NaN) || null;
  } catch {
    return null;
  }
}

/** @returns whether the library can go on */
async function handle(message: ToGrammars): Promise<boolean> {
  const { type, id } = message;
  if (type === 'open') return open(id, message.grammar, message.tokens);
  const session = sessions.get(id);
  if (session === undefined) return true;
  if (type === 'accept') {
    return answer(id, session, () => {
      advance(session, message.token);
    });
  }
  sessions.delete(id);
  free.push(session.parser);
  return true;
}

async function open(id: string, grammar: Grammar, before: readonly number[]): Promise<boolean> {
  const parser = free.pop() ?? (await GuidanceParser.create({ type: 'json_schema', schema: {} }, vocabulary));
  const isOptional = grammar.kind === 'calls' && grammar.isOptional;
  const session: Session = { parser, grammar, left: isOptional ? CALL_BEGINS.length : 0 };
  sessions.set(id, session);
  return answer(id, session, () => {
    parser.reset(libraryGrammar(grammar));
    for (const token of before) advance(session, token);
  });
}

function advance(session: Session, token: number): void {
  session.left -= tokens.bytes[token]?.length ?? 0;
  session.parser.advance(token);
}

/** @returns whether the library can go on */
function answer(id: string, session: Session, act: () => void): boolean {
  const { parser, grammar } = session;
  try {
    act();
    const mask = parser.isComplete() ? null : parser.getTokenMask();
    const transfer = mask === null ? [] : [mask.buffer as ArrayBuffer];
    say({ type: 'next', id, mask, enforced: session.left <= 0 }, transfer);
    return true;
  } catch (error) {
    const invalid = grammarErrorOf(error, grammar);
    if (invalid === null) say({ type: 'crashed', message: String(error) });
    else say({ type: 'invalid', id, message: invalid.message, part: invalid.part });
    return invalid !== null;
  }
}
