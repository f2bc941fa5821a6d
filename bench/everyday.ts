/**
 * `npm run bench:everyday`: greedy answers to everyday requests at every exit, which end by themselves, scored.
 *
 *   npm run bench:everyday -- [--model DIR] [--requests FILE] [--write]
 *
 * The last table is `kept`: the worth of full depth's answers if each ends at its last sentence within so many tokens.
 * With `--write` the manifest gets `lengths` and `quality.accuracy` of each exit and `kept`, from the half for tuning.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MANIFEST_FILE } from '../src/engine/model/manifest-io.js';
import { loadServedModel } from '../src/gateway/api/load-served-model.js';
import { type Answer, exitTable, keptTable, kindTable, measuredOf, withMeasured } from './everyday/report.js';
import { readRequests, REQUESTS } from './everyday/requests.js';
import { ask } from './loadgen/ask.js';
import { closedLoop } from './loadgen/run.js';
import { EMBEDDED, flag, number, optionsOf, runBench, text } from './options.js';
import { serverAt } from './remote/server.js';
import { startSortie, withServer } from './server.js';

const about = 'scores, lengths and loops of everyday requests at every exit; the worth of shorter answers';
const values = optionsOf('bench:everyday', about, {
  model: text('dir', 'model folder', EMBEDDED),
  requests: text('file', 'requests', REQUESTS),
  tokens: number('safety cap of an answer', 400),
  threads: number('compute threads', 2),
  slots: number('concurrent requests', 16),
  write: flag('write `lengths`, `quality.accuracy` and `kept` to the manifest of the model folder'),
});

async function main(): Promise<void> {
  const { name, exits, tokenizer } = loadServedModel(values.model);
  const layers = exits.map(({ layer }) => layer);
  const answers = await asked(name, layers);
  const encode = (text: string): number[] => tokenizer.encode(text, false);
  const deepest = Math.max(...layers);
  const full = answers.filter(({ exit }) => exit === deepest);
  const tables = [exitTable(answers, encode), kindTable(answers), keptTable(full, encode)];
  console.log(tables.map((lines) => lines.join('\n')).join('\n\n'));
  if (!values.write) return;
  const file = join(values.model, MANIFEST_FILE);
  writeFileSync(file, withMeasured(readFileSync(file, 'utf8'), measuredOf(answers, deepest, encode)));
}

/** @throws Error that names the failure if the server fails a request */
function asked(model: string, layers: readonly number[]): Promise<Answer[]> {
  const { threads, slots, tokens: max_tokens } = values;
  const requests = readRequests(values.requests);
  const jobs = layers.flatMap((exit) => requests.map((request) => ({ exit, request })));
  const options = ['--threads', String(threads), '--max-running', String(slots)];
  return withServer(startSortie(values.model, options), async ({ url }) => {
    const server = serverAt(url, null);
    const send = async ({ exit, request: { request } }: (typeof jobs)[number]) => {
      const body = { messages: [{ role: 'user', content: request }], max_tokens, temperature: 0 };
      const headers = { 'x-exit-layer': String(exit) };
      const answer = await ask(server, model, { path: '/chat/completions', body }, { headers });
      if (answer.error !== null) throw new Error(`the server failed "${request}": ${answer.error.message}`);
      return answer;
    };
    let done = 0;
    const onAnswer = (): void => {
      if (++done % 100 === 0) console.error(`${done} of ${jobs.length} answers`);
    };
    const sent = await closedLoop(send, jobs, slots, { onAnswer });
    return sent.map(({ job, answer: { text, tokens, finishReason } }) => {
      return { ...job, text, tokens, isComplete: finishReason !== 'length' };
    });
  });
}

await runBench(main);
