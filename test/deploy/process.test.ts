/** The server from an operator's view: signals, exit codes, and processes after a kill. */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { collect } from '../fakes/collector.js';
import {
  engineBelow,
  isAlive,
  main,
  printed,
  readyUrl,
  serve,
  serverArgs,
  start,
  stopped,
  tinyModel,
} from './helper.js';
import { post } from '../support/post.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir());

void t.test('the engine exits when its gateway is killed', async (t) => {
  const { process: gateway } = await serve(t, model);
  const engine = engineBelow(gateway.pid);
  gateway.kill('SIGKILL');
  await once(gateway, 'exit');
  await until('the engine ends', () => !isAlive(engine));
});

void t.test('a readable log has short lines, then the addresses and a request to paste', async (t) => {
  const args = ['serve', '--port', '0', '--threads', '1', '--model', model];
  // `script` of bsdutils gives the server a terminal.
  const command = ['NO_COLOR=1', process.execPath, main, ...args].join(' ');
  const server = start(t, 'script', ['--quiet', '--flush', '--return', '--command', command, '/dev/null']);
  const all = printed(server);
  await until('ready', () => all().includes('Ctrl+C'));
  const text = all().replaceAll('\r', '');
  t.match(text, /^\[\d\d:\d\d:\d\d\] INFO: listening on http:\/\/localhost:\d+, the model loads .*"host":"127.0.0.1"/m);
  t.match(text, /INFO: engine ready \{"device":"cpu",/);
  t.notMatch(text, /\.\d{3}/, 'no long fractions');
  const url = /Sortie is ready at (\S+)/.exec(text)?.[1] ?? '';
  for (const path of ['', 'docs']) {
    t.match(text, new RegExp(`  ${url}/${path}\\n`));
    t.equal((await fetch(`${url}/${path}`)).status, 200);
  }
  const [curl = ''] = /^ {2}curl .*\\\n.*$/m.exec(text) ?? [];
  const pasted = spawnSync('sh', ['-c', curl.replace('curl', 'curl --silent')], { encoding: 'utf8' });
  t.match(JSON.parse(pasted.stdout), { object: 'chat.completion' });
  await until('the request', () => /INFO: POST \/v1\/chat\/completions \d+ in \d+ ms/.test(all()));
});

void t.test('SIGHUP reads the key file again; a file with a fault changes nothing', async (t) => {
  const file = join(t.testdir({ keys: 'alpha\n' }), 'keys');
  const server = start(t, process.execPath, serverArgs(model, '--api-key-file', file));
  const text = printed(server);
  const url = await readyUrl(server);
  const status = async (key: string) => (await fetch(`${url}/v1/models`, { headers: { 'x-api-key': key } })).status;
  const statuses = () => Promise.all(['alpha', 'beta'].map(status));
  t.same(await statuses(), [200, 401]);
  const reload = async (content: string, line: string): Promise<void> => {
    writeFileSync(file, content);
    server.kill('SIGHUP');
    await until(line, () => text().includes(line));
  };
  await reload('two words\n', 'the API keys are not changed');
  t.match(text(), /"reason":"--api-key-file: the key in line 1 must be one word/);
  t.same(await statuses(), [200, 401]);
  await reload('beta\n', '"keys":1,"changed":1,"msg":"API keys read again"');
  t.same(await statuses(), [401, 200]);
});

void t.test('queued spans are sent on SIGTERM, as protobuf by default and as JSON on request', async (t) => {
  const collector = await collect(t);
  process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = `${collector.url}/spans`;
  const { process: server, url } = await serve(t, model).finally(() => {
    delete process.env.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT;
  });
  const answer = await post(`${url}/v1/completions`, { prompt: 'a b c', max_tokens: 3, ignore_eos: true });
  t.equal(answer.status, 200);
  t.equal(await stopped(server), 0);
  const [sent] = collector.posts;
  t.match(sent, { path: '/spans', type: 'application/x-protobuf' });
  for (const name of ['POST /v1/completions', 'queue', 'prefill', 'decode', 'gen_ai.usage.output_tokens']) {
    t.ok(sent?.body.includes(name), name);
  }
});

void t.test('npm start: a signal reaches the server, which exits with code 0', async (t) => {
  const args = ['start', '--silent', '--', '--port', '0', '--host', '127.0.0.1', '--threads', '1', '--model', model];
  const npm = start(t, 'npm', args);
  await readyUrl(npm);
  t.equal(await stopped(npm, 'SIGINT'), 0);
});
