/**
 * The body of the encoding thread: encodes one text after another. An exception ends the thread, and
 * encoding-thread.ts starts another one.
 */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { hubTokenizer } from '../tokenizer.js';
import type { EncodeMessage, EncodingThreadData } from './encoding-thread.js';

/** The longest texts take 8 s of a core. */
const MOST_MS = 60_000;

const port = parentPort;
if (port === null) throw new Error('this module must run in a worker thread');
const { tokenizer } = workerData as EncodingThreadData;
const encode = hubTokenizer(JSON.parse(readFileSync(tokenizer, 'utf8')) as object, MOST_MS);
port.on('message', ({ text, addSpecial }: EncodeMessage) => {
  const ids = Uint32Array.from(encode(text, addSpecial));
  port.postMessage(ids, [ids.buffer]);
});
