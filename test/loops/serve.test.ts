/** A looped model behind the API: exits are named by their loops, or by the layers that the loops run. */
import t from 'tap';
import { serve } from '../deploy/helper.js';
import { loopedModel } from '../engine/tiny-model.js';

/** Of a loop. */
const LAYERS = 2;

const { url } = await serve(t, await loopedModel(t));

interface Answer {
  readonly choices: readonly { readonly text: string }[];
  readonly sortie: { readonly plan: { readonly exit_layer: number }; readonly exit_layers: Record<string, number> };
  readonly error?: { readonly message: string; readonly code: string };
}

async function complete(model: string, headers: Record<string, string> = {}): Promise<[Response, Answer]> {
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ model, prompt: [5, 9, 31, 77], max_tokens: 6, temperature: 0 }),
  });
  return [response, (await response.json()) as Answer];
}

void t.test('/v1/models and /props say loops and layers', async (t) => {
  const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: readonly { id: string }[] };
  t.match(data, [
    { id: 'looped', exit_layer: null },
    ...[1, 2, 3, 4].map((loops) => ({ id: `looped:${loops}`, exit_layer: loops, loops, layers: loops * LAYERS })),
  ]);
  const props: unknown = await (await fetch(`${url}/props`)).json();
  t.match(props, {
    architecture: { layers: LAYERS, loops: { count: 4, norm: 'final' } },
    exits: [1, 2, 3, 4].map((loops) => ({ layer: loops, loops, layers: loops * LAYERS })),
  });
  t.match(await (await fetch(`${url}/v1/models/looped:6`)).json(), { id: 'looped:3' }, 'layers name the exit as well');
});

void t.test('a name pins loops; headers and reports count them', async (t) => {
  const texts = new Set<string>();
  for (const loops of [1, 2, 3, 4]) {
    const [response, answer] = await complete(`looped:${loops}`);
    t.equal(response.headers.get('x-exit-layer'), String(loops));
    t.strictSame(answer.sortie.exit_layers, { [loops]: 6 });
    texts.add(answer.choices[0]?.text ?? '');
    // Up to 4 is a number of loops.
    if (loops * LAYERS <= 4) continue;
    const [, byLayers] = await complete('looped', { 'X-Exit-Layer': String(loops * LAYERS) });
    t.equal(byLayers.sortie.plan.exit_layer, loops);
    t.equal(byLayers.choices[0]?.text, answer.choices[0]?.text);
  }
  t.ok(texts.size > 1, 'loops change the answer');
});
