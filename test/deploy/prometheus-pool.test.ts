/** Two replicas scraped by Debian's Prometheus: records add up their requests, alerts name what they are about. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { serve, tinyModel } from './helper.js';
import { post } from './pool.js';
import { dashboard, hasData, missing, query, startPrometheus } from './prometheus.js';
import { until } from '../support/until.js';

const model = tinyModel(t.testdir({}));
const ATTAINMENT = 'model_name:sortie_budget_attainment:ratio_rate5m';

interface Alert {
  readonly labels: Readonly<Record<string, string>>;
  readonly state: string;
}

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

void t.test(
  'attainment is that of all requests, and not the mean of two',
  { skip: missing('prometheus') },
  async (t) => {
    const a = await serve(t, model);
    const b = await serve(t, model);
    const prometheus = await startPrometheus(t, [a.url, b.url]);
    const values = async (expr: string): Promise<number[]> =>
      ((await query(prometheus, expr)).data?.result ?? []).map(({ value }) => Number(value[1]));
    await until('both are scraped', async () => (await values('sortie_engine_up == 1')).length === 2);
    await sleep(2000);

    const send = async (url: string, budget: string): Promise<void> => {
      await (
        await post(url, { prompt: 'Hello', max_tokens: 20, ignore_eos: true }, { 'x-latency-budget-ms': budget })
      ).text();
    };
    // a: 18 of 18 are met. b: 2 of 6.
    for (let i = 0; i < 18; i++) await send(a.url, '60000');
    for (const budget of ['60000', '60000', '0.01', '0.01', '0.01', '0.01']) await send(b.url, budget);

    // The rates of two replicas are extrapolated a little differently.
    const isNear = (value: number | undefined, exact: number): boolean => Math.abs((value ?? NaN) - exact) < 0.03;
    let last: number[] = [];
    await until('recorded', async () => {
      last = await values(ATTAINMENT);
      return isNear(last[0], 20 / 24);
    }).catch(() => undefined);
    t.equal(last.length, 1, 'one record for the model');
    t.ok(isNear(last[0], 20 / 24), `${last[0]} for 20 of 24; the mean of the replicas is .667`);

    const panel = dashboard().panels.find(({ title }) => title === 'Budgets met')?.targets?.[0]?.expr ?? '';
    const shown = async (instance: string): Promise<number | undefined> => {
      const named = panel.replaceAll('$instance', instance).replaceAll('$model', '.*').replaceAll('$__range', '5m');
      return (await values(named))[0];
    };
    t.ok(isNear(await shown('.*'), 20 / 24), 'the panel, both replicas');
    t.ok(isNear(await shown(new URL(a.url).host), 1), 'the panel, one replica');
    t.ok(isNear(await shown(new URL(b.url).host), 2 / 6), 'the panel, the other replica');
    t.ok(hasData(await query(prometheus, 'model_name:sortie_requests_waiting:per_replica')));

    const scaler = readFileSync(join(packageRoot, 'deploy', 'kubernetes', 'autoscaling.yaml'), 'utf8');
    const [load, missedShare, ...others] = [...scaler.matchAll(/^ +query: (.*)$/gm)].map(([, expr = '']) => expr);
    t.same(await values(load ?? ''), [0], "the autoscaler's load of both replicas");
    t.ok(isNear((await values(missedShare ?? ''))[0], 4 / 24), 'its share of missed budgets');
    for (const expr of others) t.equal((await values(expr)).length, 1, expr);

    const alerts = async (): Promise<readonly Alert[]> => {
      const { data } = (await (await fetch(`${prometheus}/api/v1/alerts`)).json()) as { data: { alerts: Alert[] } };
      return data.alerts;
    };
    const named = async (name: string): Promise<readonly Alert[]> =>
      (await alerts()).filter(({ labels }) => labels.alertname === name);
    await until('pending', async () => (await named('SortieBudgetsMissed')).length > 0);
    const missed = await named('SortieBudgetsMissed');
    t.equal(missed.length, 1, 'one alert for both replicas');
    t.notOk('instance' in (missed[0]?.labels ?? {}));
    b.process.kill('SIGKILL');
    await until('down', async () => (await named('SortieDown')).length > 0);
    t.match(await named('SortieDown'), [{ labels: { instance: new URL(b.url).host } }], 'it names the lost replica');
    t.equal((await named('SortieAbsent')).length, 0, 'the other one is there');
  },
);
