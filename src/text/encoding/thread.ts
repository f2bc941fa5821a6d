/**
 * The body of the thread that encodes texts: one after another, each in one go.
 *
 * Knows: the tokenizer's file. Must not know: who waits, limits. What it throws ends it; the other side
 * (encoding-thread.ts) starts another one.
 */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { hubTokenizer } from '../hub-tokenizer.js';
import type { EncodeMessage, EncodingThreadData } from './encoding-thread.js';

const port = parentPort;
if (port === null) throw new Error('this module is the body of a thread');
const { tokenizer } = workerData as EncodingThreadData;
const encode = hubTokenizer(JSON.parse(readFileSync(tokenizer, 'utf8')) as object);
port.on('message', ({ text, addSpecial }: EncodeMessage) => {
  const ids = Uint32Array.from(encode(text, addSpecial));
  port.postMessage(ids, [ids.buffer]);
});
