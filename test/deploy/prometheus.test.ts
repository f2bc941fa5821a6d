/** Debian's Prometheus against the real server: scrape, rules, and every dashboard query after a short load. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { serve, tinyModel } from './helper.js';
import { dashboard, hasData, missing, query, startPrometheus } from './prometheus.js';
import { post } from '../support/post.js';
import { until } from '../support/until.js';

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

  await t.test('scrape', async (t) => {
    t.equal((await query(prometheus, 'up{job="sortie"}')).data?.result[0]?.value[1], '1');
  });

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
