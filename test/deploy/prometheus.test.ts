/**
 * Debian's Prometheus against real servers: scrape, rules, and every dashboard query after a short load. Records add up
 * the requests of two replicas, and alerts name what they are about.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { missing, serve, tinyModel, start } from './helper.js';
import { post } from '../support/post.js';
import { until } from '../support/until.js';
import { freePorts } from '../../bench/ports.js';

const deploy = join(packageRoot, 'deploy');
const model = tinyModel(t.testdir({}));

/** Requests of every kind: with a feasible and an infeasible budget, pinned, streamed, wrong. */
async function load(url: string): Promise<void> {
  const ask = async (headers: Record<string, string>, body: object): Promise<void> => {
    const prompt = `Tell me about the number ${Math.random()}.`;
    const { data } = (await (await fetch(`${url}/v1/models`)).json()) as { data: { id: string }[] };
    // A sampled answer could end at its first token.
    const asked = { model: data[0]?.id, prompt, min_tokens: 8, max_tokens: 12, ...body };
    await (await post(`${url}/v1/completions`, asked, headers)).text();
  };
  await Promise.all([
    ask({ 'X-Latency-Budget-Ms': '60000' }, {}),
    ask({ 'X-Latency-Budget-Ms': '1' }, {}),
    ask({ 'X-SLO-TTFT-Ms': '20000', 'X-SLO-TPOT-Ms': '2000' }, { stream: true }),
    ask({ 'X-Exit-Layer': '2' }, {}),
    ask({}, { stream: true }),
    ask({}, { max_tokens: -1 }),
  ]);
}

void t.test('rules and alerts pass promtool, with their own tests', { skip: missing('promtool') }, (t) => {
  for (const args of [
    ['check', 'config', 'prometheus.yml'],
    ['check', 'rules', '--lint-fatal', 'rules.yml', 'alerts.yml'],
    ['test', 'rules', 'tests.yml'],
  ]) {
    const { status, stdout, stderr } = spawnSync('promtool', args, {
      cwd: join(deploy, 'prometheus'),
      encoding: 'utf8',
    });
    t.equal(status, 0, `${args.slice(0, 2).join(' ')}: ${stdout}${stderr}`.slice(0, 2000));
  }
  t.end();
});

const skip = missing('prometheus');
void t.test('a real Prometheus has data for every rule and every panel', { skip }, async (t) => {
  const { url: sortie } = await serve(t, model);
  await load(sortie);
  const prometheus = await startPrometheus(t, [sortie]);
  await until('first scrape', async () => hasData(await query(prometheus, 'sortie_generation_tokens_total > 0')));
  for (let wave = 0; wave < 3; wave++) {
    await load(sortie);
    await sleep(1500);
  }

  await t.test('rules', async (t) => {
    const { data } = (await (await fetch(`${prometheus}/api/v1/rules`)).json()) as {
      data: {
        groups: { rules: { name: string; type: string; health: string; state?: string; lastError?: string }[] }[];
      };
    };
    for (const { name, type, health, state, lastError } of data.groups.flatMap(({ rules }) => rules)) {
      t.equal(health, 'ok', `${name} ${lastError ?? ''}`);
      if (type === 'recording') t.ok(hasData(await query(prometheus, name)), `${name} has data`);
      else t.not(state, 'firing', `${name} does not fire`);
    }
  });

  await t.test('dashboard', async (t) => {
    const { panels } = dashboard();
    const values = { $model: '.*', $instance: '.*', $__rate_interval: '1m', $__range: '5m' };
    for (const { title, targets } of panels) {
      for (const { expr } of targets ?? []) {
        const text = Object.entries(values).reduce((text, [name, value]) => text.replaceAll(name, value), expr);
        const answer = await query(prometheus, text);
        t.equal(answer.status, 'success', `${title}: ${answer.error ?? ''}`);
        t.ok(hasData(answer), `${title} has data: ${text}`);
      }
    }
  });
});

void t.test('every query of the dashboard follows the selector of replicas', (t) => {
  const { templating, panels } = dashboard();
  const found = templating.list.find(({ name }) => name === 'instance');
  t.match(found, { label: 'Replica', multi: true, includeAll: true });
  for (const { title, targets = [] } of panels) {
    for (const { expr } of targets) {
      const selectors = [...expr.matchAll(/\bsortie_\w+(\{[^}]*\})?/g)].map(([, selector]) => selector);
      t.ok(selectors.length > 0 && selectors.every((each) => each?.includes('instance=~"$instance"')), title);
    }
  }
  t.end();
});

// Debian's Prometheus with the files of deploy/, for tests.

/** The deployed configuration with these servers as its targets, and intervals of one second. */
async function startPrometheus(t: Test, targets: readonly string[]): Promise<string> {
  const read = (name: string) => readFileSync(join(deploy, 'prometheus', name), 'utf8');
  const faster = (text: string) => text.replaceAll(/(interval): \d+s/g, '$1: 1s');
  const hosts = targets.map((target) => `'${new URL(target).host}'`).join(', ');
  const dir = t.testdir({
    'prometheus.yml': faster(read('prometheus.yml')).replace("'sortie:8080'", hosts),
    'rules.yml': faster(read('rules.yml')),
    'alerts.yml': read('alerts.yml'),
  });
  const [port = 0] = await freePorts(1);
  const address = `127.0.0.1:${port}`;
  start(t, 'prometheus', [
    `--config.file=${join(dir, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(dir, 'data')}`,
    `--web.listen-address=${address}`,
    '--log.level=error',
  ]);
  await until('Prometheus', async () => (await fetch(`http://${address}/-/ready`)).ok);
  return `http://${address}`;
}

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

interface Answer {
  readonly status: string;
  readonly error?: string;
  readonly data?: { readonly result: readonly Sample[] };
}

async function query(prometheus: string, expr: string): Promise<Answer> {
  return (await (await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(expr)}`)).json()) as Answer;
}

const hasData = ({ data }: Answer): boolean =>
  data?.result.some(({ value }) => Number.isFinite(Number(value[1]))) ?? false;

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string; readonly label: string }[] };
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
}

function dashboard(): Dashboard {
  return JSON.parse(readFileSync(join(deploy, 'grafana', 'sortie.json'), 'utf8')) as Dashboard;
}
