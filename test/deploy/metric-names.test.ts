/** Rules, alerts, dashboard and cluster files name only series that the server exports. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';

const deploy = join(packageRoot, 'deploy');

const series = createSeries('m').registry;
const known = new Set(
  (await series.getMetricsAsJSON()).flatMap(({ name, type }) =>
    String(type) === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

/** Names of recording rules contain colons; the part between colons is the subject of the rule, not a series. */
function namesIn(text: string): string[] {
  return [...text.matchAll(/(?<![\w:])sortie_\w+(?![\w:])/g)].map(([name]) => name);
}

const files = readdirSync(deploy, { recursive: true, encoding: 'utf8' }).filter((name) => /\.(ya?ml|json)$/.test(name));

void t.test('the server exports every series in deploy/', (t) => {
  let count = 0;
  for (const file of files) {
    for (const name of namesIn(readFileSync(join(deploy, file), 'utf8'))) {
      count++;
      if (!known.has(name)) t.fail(`${file} names ${name}`);
    }
  }
  t.ok(count > 50, `${count} names`);
  t.end();
});

void t.test('the rules record every recorded series in deploy/', (t) => {
  const rules = readFileSync(join(deploy, 'prometheus', 'rules.yml'), 'utf8');
  const recorded = new Set([...rules.matchAll(/record: (\S+)/g)].map(([, name]) => name));
  for (const file of files) {
    const text = readFileSync(join(deploy, file), 'utf8');
    for (const [name] of text.matchAll(/\b\w+:sortie_\w+:\w+/g)) {
      if (!recorded.has(name)) t.fail(`${file} names ${name}`);
    }
  }
  t.ok(recorded.size > 5);
  t.end();
});

void t.test('every alert is in the table of docs/runbook.md', (t) => {
  const docs = readFileSync(join(packageRoot, 'docs', 'runbook.md'), 'utf8');
  const alerts = [...readFileSync(join(deploy, 'prometheus', 'alerts.yml'), 'utf8').matchAll(/alert: (\w+)/g)];
  for (const [, name = ''] of alerts) t.match(docs, new RegExp(`^\\|[^|]*\\b${name}\\b`, 'm'), name);
  t.ok(alerts.length > 5);
  t.end();
});
