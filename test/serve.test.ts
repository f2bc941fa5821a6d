/** The whole server as a process, on the embedded model: start, answers at every depth, faults, shutdown. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, openSync, readdirSync, readFileSync, symlinkSync, writeSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { resolveOptions } from '../src/config.js';

const main = join(import.meta.dirname, '..', 'src', 'main.js');
const modelDir = resolveOptions({}, process.env).model;

interface Server {
  readonly child: ChildProcess;
  readonly url: string;
  readonly exit: Promise<number | null>;
  /** Everything that it printed so far. */
  output(): string;
}

async function until(what: () => Promise<boolean> | boolean, timeoutMs = 60_000): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (performance.now() < end) {
    if (await what()) return true;
    await delay(50);
  }
  return false;
}

const ok = (url: string): Promise<boolean> =>
  fetch(url).then(
    (response) => response.ok,
    () => false,
  );

function launch(t: Test, args: string[], stdout: 'pipe' | number = 'pipe'): Omit<Server, 'url'> {
  const child = spawn(process.execPath, [main, 'serve', '--host', '127.0.0.1', ...args], {
    stdio: ['ignore', stdout, 'pipe'],
  });
  let text = '';
  child.stdout?.on('data', (data: Buffer) => (text += data.toString()));
  child.stderr?.on('data', (data: Buffer) => (text += data.toString()));
  const exit = once(child, 'close').then(([code]) => code as number | null);
  t.teardown(() => child.kill('SIGKILL'));
  return { child, exit, output: () => text };
}

async function start(t: Test, args: string[] = []): Promise<Server> {
  const server = launch(t, ['--port', '0', ...args]);
  const port = (): string | undefined => /"port":(\d+)/.exec(server.output())?.[1];
  await until(() => port() !== undefined);
  const url = `http://127.0.0.1:${port() ?? ''}`;
  t.ok(await until(() => ok(`${url}/health/ready`)), 'ready');
  return { ...server, url };
}

function post(url: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

interface Completion {
  choices: { text: string; finish_reason: string }[];
  usage: { completion_tokens: number };
  sortie: { exit_layers: Record<string, number> };
}

function enginePid(server: Server): number {
  const pid = String(server.child.pid);
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

const prompt = 'The capital of France is';

void t.test('answers at every depth, streamed as whole, and the same again', async (t) => {
  const { url } = await start(t);
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

void t.test('scoring a prompt: echo, logprobs, max_tokens 0', async (t) => {
  const { url } = await start(t);
  const score = async (text: string): Promise<number> => {
    const response = await post(`${url}/v1/completions`, { prompt: text, echo: true, logprobs: 1, max_tokens: 0 });
    const body = (await response.json()) as {
      choices: [{ text: string; logprobs: { tokens: string[]; token_logprobs: (number | null)[] } }];
    };
    const [choice] = body.choices;
    t.equal(choice.text, text);
    t.equal(choice.logprobs.tokens.join(''), text);
    t.equal(choice.logprobs.token_logprobs.filter((value) => value === null).length, 1, 'only the first has none');
    return choice.logprobs.token_logprobs.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  };
  const sense = await score(`${prompt} Paris.`);
  const nonsense = await score(`${prompt} sandwich.`);
  t.ok(sense < 0 && sense > nonsense);
});

void t.test('response_format: streamed or not, at any depth, the answer keeps to the schema', async (t) => {
  const { url } = await start(t);
  const schema = {
    type: 'object',
    properties: {
      city: { type: 'string', minLength: 1, maxLength: 12 },
      people: { type: 'integer', minimum: 1, maximum: 99_999_999 },
    },
    required: ['city', 'people'],
    additionalProperties: false,
  };
  const ask = {
    messages: [{ role: 'user', content: 'Describe Paris.' }],
    max_tokens: 60,
    response_format: { type: 'json_schema', json_schema: { name: 'city', schema } },
  };
  const check = (text: string): void => {
    const value = JSON.parse(text) as { city: string; people: number };
    t.same(Object.keys(value), ['city', 'people'], text);
    t.ok(value.city.length > 0 && value.city.length <= 12 && Number.isInteger(value.people), text);
  };
  for (const [depth, temperature] of [
    ['30', 0],
    ['10', 1],
  ] as const) {
    const headers = { 'X-Exit-Layer': depth };
    const whole = await post(`${url}/v1/chat/completions`, { ...ask, temperature }, headers);
    const body = (await whole.json()) as { choices: [{ message: { content: string }; finish_reason: string }] };
    t.equal(body.choices[0].finish_reason, 'stop');
    check(body.choices[0].message.content);
    const streamed = await (
      await post(`${url}/v1/chat/completions`, { ...ask, temperature, stream: true }, headers)
    ).text();
    const chunks = [...streamed.matchAll(/^data: (\{.*)$/gm)].map(
      ([, data]) => JSON.parse(data ?? '') as { choices: { delta: { content?: string } }[] },
    );
    check(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''));
  }
  const wrong = {
    ...ask,
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'pear' } } },
  };
  const refused = await post(`${url}/v1/chat/completions`, wrong);
  t.equal(refused.status, 400);
  t.match(await refused.json(), { error: { param: 'response_format', message: /pear/ } });
  const any = await post(`${url}/v1/completions`, {
    prompt: 'A JSON object:',
    max_tokens: 40,
    response_format: { type: 'json_object' },
  });
  t.match(((await any.json()) as Completion).choices[0]?.text, /^\{/);
});

void t.test('kill -9 of the engine: streams end with an error event, readiness drops and comes back', async (t) => {
  const server = await start(t);
  const ask = { prompt, max_tokens: 2000, ignore_eos: true, stream: true };
  // The status line of a stream goes out with its first token.
  const begun = await Promise.all([1, 2, 3].map(() => post(`${server.url}/v1/completions`, ask)));
  const streams = begun.map((response) => response.text());
  process.kill(enginePid(server), 'SIGKILL');
  for (const text of await Promise.all(streams)) {
    t.match(text, /data: \{"error":\{.*"code":"engine_lost"\}\}\n\ndata: \[DONE\]\n\n$/);
  }
  t.equal(await ok(`${server.url}/health`), true, 'liveness goes on');
  t.equal(await ok(`${server.url}/health/ready`), false);
  t.equal((await post(`${server.url}/v1/completions`, { prompt })).status, 503);
  t.ok(await until(() => ok(`${server.url}/health/ready`)), 'started again');
  t.equal((await post(`${server.url}/v1/completions`, { prompt })).status, 200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  t.match(metrics, /^sortie_engine_down_total\{[^}]*\} 1$/m);
});

void t.test('kill -9 of the gateway takes the engine along', async (t) => {
  const server = await start(t);
  const pid = enginePid(server);
  server.child.kill('SIGKILL');
  const alive = (): boolean => {
    try {
      // A zombie that its new parent has not collected is dead.
      return !readFileSync(`/proc/${String(pid)}/stat`, 'utf8').includes(') Z ');
    } catch {
      return false;
    }
  };
  t.ok(await until(() => !alive(), 10_000));
});

void t.test('SIGTERM under load: accepted answers finish, new ones get 503, exit code 0', async (t) => {
  const server = await start(t);
  const ask = { prompt, max_tokens: 60, ignore_eos: true };
  const whole = [1, 2, 3].map(() => post(`${server.url}/v1/completions`, ask));
  const streamed = [1, 2, 3].map(() => post(`${server.url}/v1/completions`, { ...ask, stream: true }));
  await Promise.any(streamed);
  server.child.kill('SIGTERM');
  await until(() => server.output().includes('draining'));
  t.equal((await post(`${server.url}/v1/completions`, ask)).status, 503);
  for (const response of await Promise.all(whole)) {
    t.equal(((await response.json()) as Completion).usage.completion_tokens, 60);
  }
  for (const response of await Promise.all(streamed))
    t.match(await response.text(), /"finish_reason":"length".*\[DONE\]\n\n$/s);
  t.equal(await server.exit, 0);
});

void t.test('what keeps it from starting is said in one line, with code 1', async (t) => {
  const server = await start(t);
  const port = new URL(server.url).port;
  const second = launch(t, ['--port', port]);
  t.equal(await second.exit, 1);
  t.match(second.output(), `error: cannot listen on 127.0.0.1 port ${port}: it is in use`);

  const dir = t.testdir();
  for (const name of readdirSync(modelDir)) {
    if (name.startsWith('weights-000')) copyFileSync(join(modelDir, name), join(dir, name));
    else symlinkSync(join(modelDir, name), join(dir, name));
  }
  const damaged = readdirSync(dir).find((name) => name.startsWith('weights-000')) ?? '';
  writeSync(openSync(join(dir, damaged), 'r+'), 'damage', 5000);
  const corrupt = launch(t, ['--port', '0', '--model', dir]);
  t.equal(await corrupt.exit, 1);
  t.match(corrupt.output(), new RegExp(`error: .*${damaged}.*(SHA-256|checksum)`, 'i'));
});

void t.test('a full disk behind the log costs lines, not answers', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  const server = launch(t, ['--port', String(port)], openSync('/dev/full', 'w'));
  const url = `http://127.0.0.1:${port}`;
  t.ok(await until(() => ok(`${url}/health/ready`)));
  t.equal((await post(`${url}/v1/completions`, { prompt })).status, 200);
  server.child.kill('SIGTERM');
  t.equal(await server.exit, 0);
});
