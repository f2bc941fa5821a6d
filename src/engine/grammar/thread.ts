/**
 * The thread of grammars: JSON schemas become masks over the vocabulary, beside the engine's steps.
 *
 * Knows: llguidance. Must not know: sequences' depth, budgets, logits.
 * Parsers are expensive to make (a second, tens of megabytes) and cheap to set to another grammar: they are kept.
 * Whatever is not an error of a grammar ends the thread; the other side (grammars.ts) starts another one.
 */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import * as llguidance from 'transformers-llguidance';
import type { TokenizerJson } from '../../model/token-bytes.js';
import type { FromGrammars, GrammarThreadData, ToGrammars } from './messages.js';
import { grammarVocabulary, type GrammarVocabulary } from './vocabulary.js';

interface Grammar {
  readonly type: 'json_schema';
  readonly schema: object;
}

/** What is used of the library, whose own types don't resolve under Node's module rules. It throws strings. */
interface Parser {
  reset(grammar: Grammar): void;
  advance(token: number): void;
  /** Whether nothing may come any more. */
  isComplete(): boolean;
  /** By token id: 1 may come next. */
  getTokenMask(): Uint8Array;
}
const { GuidanceParser } = llguidance as unknown as {
  GuidanceParser: { create(grammar: Grammar, vocabulary: GrammarVocabulary): Promise<Parser> };
};

const port = parentPort;
if (port === null) throw new Error('this module is the body of a thread');
const { tokenizer, end } = workerData as GrammarThreadData;
const vocabulary = grammarVocabulary(JSON.parse(readFileSync(tokenizer, 'utf8')) as TokenizerJson, end);
const free: Parser[] = [];
const live = new Map<string, Parser>();

/** On one line: small models can go on with white space for ever. */
const OPTIONS = { whitespace_flexible: false, item_separator: ', ', key_separator: ': ' };

function grammarOf(schema: string): Grammar {
  const json = JSON.parse(schema) as unknown;
  // A schema may be `true`; the library's options need an object.
  const object = typeof json === 'object' && json !== null ? json : { anyOf: [json] };
  return { type: 'json_schema', schema: { ...object, 'x-guidance': OPTIONS } };
}

/** The first line of what the library says of a grammar. @throws everything else */
function complaint(error: unknown): string {
  if (typeof error !== 'string') throw error;
  const [line = ''] = error.split('\n');
  return line.replace(/^Failed to (compute mask|consume token): /, '').slice(0, 200);
}

function next(id: string, parser: Parser): void {
  const mask = parser.isComplete() ? null : parser.getTokenMask();
  const message: FromGrammars = { type: 'next', id, mask };
  port?.postMessage(message, mask === null ? [] : [mask.buffer as ArrayBuffer]);
}

function answer(id: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    const message: FromGrammars = { type: 'wrong', id, message: complaint(error) };
    port?.postMessage(message);
  }
}

async function open(id: string, schema: string): Promise<void> {
  const parser = free.pop() ?? (await GuidanceParser.create({ type: 'json_schema', schema: {} }, vocabulary));
  live.set(id, parser);
  answer(id, () => {
    parser.reset(grammarOf(schema));
    next(id, parser);
  });
}

async function handle(message: ToGrammars): Promise<void> {
  const { id } = message;
  if (message.type === 'open') {
    await open(id, message.schema);
    return;
  }
  const parser = live.get(id);
  if (parser === undefined) return;
  if (message.type === 'close') {
    live.delete(id);
    free.push(parser);
    return;
  }
  answer(id, () => {
    parser.advance(message.token);
    next(id, parser);
  });
}

// One after another: a parser in the making must not be overtaken.
let last = Promise.resolve();
port.on('message', (message: ToGrammars) => {
  last = last.then(() => handle(message));
});
