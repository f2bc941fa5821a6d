/** Debian's Prometheus with the files of deploy/, for tests. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { freePorts } from '../../bench/ports.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { start } from './helper.js';
import { until } from '../support/until.js';

const deploy = join(packageRoot, 'deploy');

/** The deployed configuration with these servers as its targets, and intervals of one second. */
export async function startPrometheus(t: Test, targets: readonly string[]): Promise<string> {
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

export async function query(prometheus: string, expr: string): Promise<Answer> {
  return (await (await fetch(`${prometheus}/api/v1/query?query=${encodeURIComponent(expr)}`)).json()) as Answer;
}

export const hasData = ({ data }: Answer): boolean =>
  data?.result.some(({ value }) => Number.isFinite(Number(value[1]))) ?? false;

export interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string; readonly label: string }[] };
  readonly panels: readonly { readonly title: string; readonly targets?: readonly { readonly expr: string }[] }[];
}

export function dashboard(): Dashboard {
  return JSON.parse(readFileSync(join(deploy, 'grafana', 'sortie.json'), 'utf8')) as Dashboard;
}
