/** The depth of prompts: by header and body, in the request to the engine, in the report and in GET /props. */
import t from 'tap';
import { build, says } from '../fakes/server.js';

interface Answer {
  readonly sortie?: { readonly prompt_depth?: number | null };
  readonly error?: { readonly message: string; readonly param: string };
}

const both = { promptExit: { layer: 20, isOnly: false } };
const prompt = { prompt: 'Hello', stream: false };

void t.test('a request chooses the depth of its prompt', async (t) => {
  const server = await build(t, says('Yes.'), { model: both });
  const bounds = { minExit: 10, maxExit: 30 };
  const full = { minExit: 30, maxExit: 30 };
  const cases: [Record<string, string>, object, object][] = [
    [{}, {}, { ...bounds, promptDepth: null }],
    [{ 'X-Prompt-Depth': 'full' }, {}, { ...bounds, promptDepth: null }],
    [{ 'X-Prompt-Depth': '20' }, {}, { ...full, promptDepth: 20 }],
    [{}, { prompt_depth: 20 }, { ...full, promptDepth: 20 }],
    [{}, { prompt_depth: 'full' }, { ...bounds, promptDepth: null }],
    [{ 'X-Prompt-Depth': '20' }, { prompt_depth: 'full' }, { ...bounds, promptDepth: null }],
    [{ 'X-Prompt-Depth': '20, 20', 'X-Latency-Budget-Ms': '900' }, {}, { ...full, promptDepth: 20 }],
    [{ 'X-Prompt-Depth': 'full', 'X-Exit-Layer': '15' }, {}, { minExit: 15, maxExit: 15, promptDepth: null }],
    [{ 'X-Prompt-Depth': '20', 'X-Exit-Layer': '15-30' }, {}, { ...full, promptDepth: 20 }],
    [{ 'X-Prompt-Depth': '20', 'X-Exit-Layer': '30' }, {}, { ...full, promptDepth: 20 }],
    [{ 'X-Latency-Budget-Ms': '900' }, {}, { ...bounds, promptDepth: 'auto' }],
    [{ 'X-SLO-TTFT-Ms': '90', 'X-Exit-Layer': '15-30' }, {}, { minExit: 15, maxExit: 30, promptDepth: 'auto' }],
    [{ 'X-Latency-Budget-Ms': '900', 'X-Prompt-Depth': 'full' }, {}, { ...bounds, promptDepth: null }],
    [{ 'X-Latency-Budget-Ms': '900', 'X-Exit-Layer': '30' }, {}, { ...full, promptDepth: null }],
    [
      { 'X-Latency-Budget-Ms': '900', 'X-Exit-Layer': '30' },
      { prompt_depth: 'auto' },
      { ...full, promptDepth: 'auto' },
    ],
    [{ 'X-Prompt-Depth': 'auto' }, {}, { ...bounds, promptDepth: 'auto' }],
  ];
  for (const [headers, sortie, want] of cases) {
    const response = await server.post('/v1/completions', { ...prompt, sortie }, headers);
    t.equal(response.status, 200, JSON.stringify([headers, sortie]));
    const { minExit, maxExit, promptDepth } = server.engine.requests.at(-1)?.depth ?? {};
    t.strictSame({ minExit, maxExit, promptDepth }, want, JSON.stringify([headers, sortie]));
    const { sortie: report } = (await response.json()) as Answer;
    t.equal(report?.prompt_depth, promptDepth === 'auto' ? null : promptDepth);
  }
});

void t.test('the report has the plan of the prompt, and the depth that it ran', async (t) => {
  const script = says('Yes.', { plan: { promptDepth: 20 }, ended: { promptDepth: null } });
  const server = await build(t, script, { model: both });
  const response = await server.post('/v1/completions', prompt, { 'X-Latency-Budget-Ms': '900' });
  t.match(await response.json(), { sortie: { plan: { prompt_depth: 20 }, prompt_depth: null } });
});

void t.test('a depth of prompts that does not fit is rejected by name', async (t) => {
  const offered = /must be a depth of prompts that the model offers \(full, 20, auto\), got /;
  const behind = /must be full for an answer that may not run at exit 30 \(this one: at most 15\), got 20/;
  const server = await build(t, says('Yes.'), { model: both });
  const cases: [Record<string, string>, object, string, RegExp][] = [
    [{ 'X-Prompt-Depth': '15' }, {}, 'X-Prompt-Depth', offered],
    [{ 'X-Prompt-Depth': 'deep' }, {}, 'X-Prompt-Depth', offered],
    [{ 'X-Prompt-Depth': '20, full' }, {}, 'X-Prompt-Depth', /must have one value, got different ones: 20, full/],
    [{}, { prompt_depth: 21 }, 'sortie.prompt_depth', offered],
    [{}, { prompt_depth: 'half' }, 'sortie.prompt_depth', /must be full, auto or an integer/],
    [{ 'X-Prompt-Depth': '20', 'X-Exit-Layer': '15' }, {}, 'X-Prompt-Depth', behind],
    [{ 'X-Exit-Layer': '10-15' }, { prompt_depth: 20 }, 'sortie.prompt_depth', behind],
  ];
  for (const [headers, sortie, param, message] of cases) {
    const response = await server.post('/v1/completions', { ...prompt, sortie }, headers);
    const { error } = (await response.json()) as Answer;
    t.equal(response.status, 400, JSON.stringify([headers, sortie]));
    t.equal(error?.param, param);
    t.match(error?.message, message);
  }
});

void t.test('models with one depth of prompts', async (t) => {
  for (const [promptExit, own, other] of [
    [undefined, 'full', '20'],
    [{ layer: 20, isOnly: true }, '20', 'full'],
  ] as const) {
    const server = await build(t, says('Yes.'), promptExit === undefined ? {} : { model: { promptExit } });
    const response = await server.post('/v1/completions', prompt, { 'X-Prompt-Depth': own });
    t.equal(response.status, 200);
    t.equal('prompt_depth' in (((await response.json()) as Answer).sortie ?? {}), false);
    t.equal(server.engine.requests.at(-1)?.depth.promptDepth, undefined);
    t.equal((await server.post('/v1/completions', prompt, { 'X-Prompt-Depth': other })).status, 400);
    const props = (await (await fetch(`${server.url}/props`)).json()) as { prompt_depths?: unknown };
    t.strictSame(props.prompt_depths, promptExit && [20]);
  }
});
