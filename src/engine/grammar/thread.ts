/**
 * The grammar thread: turns JSON schemas and calls into masks over the vocabulary, beside the engine's steps.
 *
 * Must not know: sequences' depth, budgets, logits.
 * A parser is expensive to create (a second, tens of megabytes) and cheap to reset to another grammar, so it is reused.
 * Any error that is not a fault of a grammar ends the thread; the other side (grammars.ts) starts another one. After a
 * panic, the library's memory is undefined, so no other grammar may run there.
 */
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { parentPort, workerData } from 'node:worker_threads';
import { tokenBytes, type TokenizerJson } from '../../gateway/text/token-bytes.js';
import { CALL_BEGINS } from '../../gateway/text/tool-form.js';
import type { Grammar } from '../../protocol/index.js';
import { GuidanceParser, type Parser } from './guidance.js';
import { toInvalidGrammar, libraryGrammar } from './library.js';
import type { FromGrammars, GrammarThreadData, ToGrammars } from './messages.js';
import { grammarVocabulary } from './vocabulary.js';

interface Session {
  readonly parser: Parser;
  readonly grammar: Grammar;
  /** Bytes until the masks are enforced. */
  left: number;
}

const port = parentPort;
if (port === null) throw new Error('this module must run as a worker thread');
const { tokenizer, end } = workerData as GrammarThreadData;
const tokens = tokenBytes(JSON.parse(readFileSync(tokenizer, 'utf8')) as TokenizerJson);
const vocabulary = grammarVocabulary(tokens, end);
// In pages of 64 KiB: 256 MiB, and half a KiB a token for each of 16 parsers. A grammar that takes more crashes the
// library, and not the machine.
setFlagsFromString(`--wasm-max-mem-pages=${4096 + (tokens.bytes.length >> 3)}`);
say({ type: 'loaded' });
const free: Parser[] = [];
const sessions = new Map<string, Session>();

function say(message: FromGrammars, transfer: ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer);
}

function next(id: string, { parser, left }: Session): void {
  const mask = parser.isComplete() ? null : parser.getTokenMask();
  say({ type: 'next', id, mask, enforced: left <= 0 }, mask === null ? [] : [mask.buffer as ArrayBuffer]);
}

/** @returns a promise that resolves when the next message may be read; never after a crash of the library */
function answer(id: string, each: Session, act: () => void): Promise<void> {
  try {
    act();
    next(id, each);
  } catch (error) {
    const invalid = toInvalidGrammar(error, each.grammar);
    if (invalid === null) {
      say({ type: 'crashed', message: String(error) });
      return new Promise(() => undefined);
    }
    say({ type: 'invalid', id, ...invalid });
  }
  return Promise.resolve();
}

function advance(each: Session, token: number): void {
  each.left -= tokens.bytes[token]?.length ?? 0;
  each.parser.advance(token);
}

async function open(id: string, grammar: Grammar, before: readonly number[]): Promise<void> {
  const parser = free.pop() ?? (await GuidanceParser.create({ type: 'json_schema', schema: {} }, vocabulary));
  const isOptional = grammar.kind === 'calls' && grammar.isOptional;
  const each: Session = { parser, grammar, left: isOptional ? CALL_BEGINS.length : 0 };
  sessions.set(id, each);
  await answer(id, each, () => {
    parser.reset(libraryGrammar(grammar));
    for (const token of before) advance(each, token);
  });
}

async function handle(message: ToGrammars): Promise<void> {
  const { id } = message;
  if (message.type === 'open') {
    await open(id, message.grammar, message.tokens);
    return;
  }
  const each = sessions.get(id);
  if (each === undefined) return;
  if (message.type === 'close') {
    sessions.delete(id);
    free.push(each.parser);
    return;
  }
  await answer(id, each, () => {
    advance(each, message.token);
  });
}

// Messages run one after another: none may overtake a parser that is being created.
let last = Promise.resolve();
port.on('message', (message: ToGrammars) => {
  last = last.then(() => handle(message));
});
