/**
 * The whole server as a process, on the embedded model: start and answers at every depth. test/chaos has the faults.
 */
import t from 'tap';
import { main, printed, readyUrl, start } from './deploy/helper.js';
import { post } from './support/post.js';

interface Completion {
  choices: { text: string; finish_reason: string }[];
  usage: { completion_tokens: number };
  sortie: { exit_layers: Record<string, number> };
}

const prompt = 'The capital of France is';
const upstream = ['--upstream', 'http://127.0.0.1:9/v1', '--upstream-model', 'tiny'];
const server = start(t, process.execPath, [main, 'serve', '--host', '127.0.0.1', '--port', '0', ...upstream]);
const log = printed(server);
const url = await readyUrl(server);

void t.test('the log of the start names the upstream models beside the local one', (t) => {
  const lines = log()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { msg: string });
  const listens = lines.find(({ msg }) => msg.startsWith('listening on '));
  t.match(listens, { model: 'smollm2-135m-sorted', upstreams: ['tiny'], msg: /, the model loads$/ });
  t.end();
});

void t.test('answers at every depth are equal streamed and whole, and equal when repeated', async (t) => {
  const depths = ['10', '15', '20', '25', '30'];
  const ask = { prompt, max_tokens: 12, temperature: 0 };
  for (const depth of depths) {
    const whole = (await (await post(`${url}/v1/completions`, ask, { 'X-Exit-Layer': depth })).json()) as Completion;
    t.same(whole.sortie.exit_layers, { [depth]: whole.usage.completion_tokens }, `depth ${depth}`);
    const streamed = await (
      await post(`${url}/v1/completions`, { ...ask, stream: true }, { 'X-Exit-Layer': depth })
    ).text();
    const text = [...streamed.matchAll(/^data: (\{.*)$/gm)]
      .map(([, data]) => (JSON.parse(data ?? '') as Completion).choices[0]?.text ?? '')
      .join('');
    t.equal(text, whole.choices[0]?.text, 'greedy streamed text equals greedy whole text');
  }
  const full = (await (await post(`${url}/v1/completions`, ask)).json()) as Completion;
  t.match(full.choices[0]?.text, /Paris/, 'full depth knows the capital of France');
  const seeded = { prompt, max_tokens: 12, temperature: 1, seed: 5, n: 2 };
  const texts = async () =>
    ((await (await post(`${url}/v1/completions`, seeded)).json()) as Completion).choices.map((choice) => choice.text);
  t.same(await texts(), await texts(), 'same seed, same text');
});
