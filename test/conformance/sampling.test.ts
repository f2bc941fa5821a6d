/** The effect of sampling parameters on answers of a real engine with the tiny model. */
import t from 'tap';
import { serve, tinyModel } from '../deploy/helper.js';
import { post } from '../support/post.js';

const model = tinyModel(t.testdir());

void t.test('the lowest temperatures are greedy, whatever the other parameters', async (t) => {
  const { url } = await serve(t, model);
  const ask = async (fields: object): Promise<string> => {
    const body = { prompt: 'The capital of', max_tokens: 12, ignore_eos: true, logprobs: 0, ...fields };
    const response = await post(`${url}/v1/completions`, body);
    const { choices } = (await response.json()) as { choices: { text: string; logprobs: { tokens: string[] } }[] };
    return JSON.stringify(choices.map(({ text, logprobs }) => [text, logprobs.tokens]));
  };
  const greedy = await ask({ temperature: 0 });
  const others = [{}, { top_k: 40 }, { top_p: 0.9 }, { min_p: 0.1 }, { seed: 7 }, { sortie: { speculate: true } }];
  for (const temperature of [5e-324, 2.2250738585072014e-308, 1.17e-38, 9e-6])
    for (const fields of others)
      t.equal(await ask({ temperature, ...fields }), greedy, `${temperature} ${JSON.stringify(fields)}`);
  t.not(await ask({ temperature: 2, seed: 7 }), greedy, 'another answer is possible');
});
