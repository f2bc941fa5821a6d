/** Scanners of text that others choose take sixteen times the processor time for sixteen times the text. */
import fc from 'fast-check';
import { Readable } from 'node:stream';
import t from 'tap';
import { addFields, noFields } from '../../src/gateway/api/generation/joined-fields.js';
import { codePointLength } from '../../src/gateway/text/code-points.js';
import { OpenText, SentenceEnds } from '../../src/gateway/text/sentences/sentence-ends.js';
import { StopStrings } from '../../src/gateway/text/stop-strings.js';
import { boundaryOf, textPieces } from '../../src/gateway/text/text-pieces.js';
import { ThoughtReader } from '../../src/gateway/text/thoughts.js';
import { ChunkReader, readChunk } from '../../src/gateway/upstream/chunk.js';
import { HeldAnswer } from '../../src/gateway/upstream/held-answer.js';
import { HeldBytes } from '../../src/gateway/upstream/held-bytes.js';
import { withTexts } from '../../src/gateway/upstream/json-fields.js';
import { eventsIn, frameOf } from '../../src/gateway/upstream/sse-events.js';
import { jsonSize } from '../../src/util/json-size.js';

/** Characters of the shorter text, and how many times the longer one has them. */
const SHORT = 4096;
const TIMES = 16;
/** Sixteen times the text take 16 times the time, or 256 times where a scanner begins again for each part. */
const MOST = 4 * TIMES;

/** Processor time of this process in a run. Other processes take none of it. */
async function cpuMs(run: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const TAGS = { open: '<think>', close: '</think>' };
const boundary = boundaryOf({ pre_tokenizer: { type: 'ByteLevel' } } as Parameters<typeof boundaryOf>[0]);
const partsOf = (text: string): string[] => text.match(/[^]{1,3}/gu) ?? [];
const chunkOf = (content: string): string => JSON.stringify({ id: 'a', choices: [{ index: 0, delta: { content } }] });
const asChoice = (text: string, deltaOf: (part: string, index: number) => Readonly<Record<string, unknown>>): void => {
  const whole = noFields();
  for (const [at, part] of [...partsOf(text).entries()]) addFields(whole, deltaOf(part, at));
  JSON.stringify(whole);
};
const held = (text: string, hold: 'all' | 'sentence'): void => {
  const answer = new HeldAnswer(1, () => undefined);
  for (const part of partsOf(text)) for (const piece of readChunk(chunkOf(part)).pieces) answer.add(piece, hold);
  answer.landed();
};
async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  for (const part of partsOf(text)) yield await Promise.resolve(Buffer.from(part));
}
const events = async (text: string): Promise<void> => {
  const bytes = new HeldBytes('linear');
  for await (const group of eventsIn(
    Readable.from(
      bytesOf(`${text}

`),
    ),
    bytes,
  ))
    group.forEach(frameOf);
  bytes.close();
};

const SCANNERS: Readonly<Record<string, (text: string) => unknown>> = {
  sentences: (text) => {
    const ends = new SentenceEnds();
    for (const part of partsOf(text)) ends.add(part);
    return ends.lastIfOver;
  },
  'open text': (text) => {
    const open = new OpenText();
    for (const part of partsOf(text)) open.push(part, 'code');
    open.back();
  },
  'stop strings': (text) => {
    const stops = new StopStrings(['   x', '\n\n\n', 'aab']);
    for (const part of partsOf(text)) stops.push(part);
  },
  thoughts: (text) => {
    const reader = new ThoughtReader(TAGS, true);
    for (const part of partsOf(text)) reader.push(part);
  },
  'start of thoughts': (text) => {
    const reader = new ThoughtReader(TAGS, false);
    for (const part of partsOf(text)) reader.push(part);
    reader.end();
  },
  pieces: (text) => boundary !== null && [...textPieces(text, boundary)],
  'code points': codePointLength,
  'size of JSON': jsonSize,
  'names in JSON': (text) => withTexts(`{"model":"a","x":${JSON.stringify(text)},${text}`, { model: 'b' }),
  'chunks that pass': (text) => {
    const chunks = new ChunkReader({ id: 'b', model: 'c' });
    for (const data of partsOf(text).map(chunkOf)) chunks.read(data);
  },
  'events by lines': (text) => events(text.replaceAll('\n', ' ').replaceAll('a', '\ndata:')),
  'one long event': (text) => events(`data: ${text.replaceAll('\n', ' ')}`),
  'held text': (text) => {
    held(text, 'all');
  },
  'held sentences': (text) => {
    held(text, 'sentence');
  },
  'whole text': (text) => {
    asChoice(text, (content) => ({ content }));
  },
  'whole lists': (text) => {
    asChoice(text, (part) => ({ x: [part] }));
  },
  'whole fields': (text) => {
    asChoice(text, (part, index) => ({ [`x${index}`]: part }));
  },
  'whole calls': (text) => {
    asChoice(text, (part, index) => ({ tool_calls: [{ index: index % 500, function: { arguments: part } }] }));
  },
};

const unit = fc.constantFrom(
  ...[' ', '\n', '.', 'a', 'ab', '1.', '"', "'", '`', '*', '- ', '> ', '|', '(', '\t', '{', ',', '…', '<'],
);
const texts = fc.record({
  prefix: fc.constantFrom('', 'Hello there.', '```js\n', '<think>', '- One'),
  units: fc.array(unit, { minLength: 1, maxLength: 3 }),
});

for (const [name, scan] of Object.entries(SCANNERS))
  void t.test(name, async (t) => {
    await fc.assert(
      fc.asyncProperty(texts, async ({ prefix, units }) => {
        const textOf = (length: number): string => prefix + units.join('').repeat(length / units.join('').length);
        const [short, long] = [textOf(SHORT), textOf(TIMES * SHORT)];
        // Compilation and garbage collection lengthen some runs.
        const ratios: number[] = [];
        while (ratios.length < 5 && !ratios.some((ratio) => ratio < MOST)) {
          const once = Math.min(...[await cpuMs(() => scan(short)), await cpuMs(() => scan(short))]);
          ratios.push((await cpuMs(() => scan(long))) / Math.max(once, 0.1));
        }
        t.ok(Math.min(...ratios) < MOST, `${prefix}${units.join('')}: ${ratios.join(', ')} times`);
      }),
      { numRuns: 5, examples: [[{ prefix: 'Hello there.', units: [' '] }], [{ prefix: '<think>', units: [' '] }]] },
    );
  });
