/**
 * Cluster files against each other, and HTTPRoute against the schema of Gateway API 1.0 from npm. deploy/validate.py checks
 * Kubernetes' own kinds, KEDA, KServe and compose.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HTTPRoute } from '@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/HTTPRoute';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { environmentName, packageRoot, resolveOptions, SERVE_OPTIONS } from '../../src/cli/options/config.js';
import { createSeries } from '../../src/gateway/telemetry/series.js';
import { build } from '../fakes/server.js';
import { missing } from './helper.js';

interface Resource {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec: object;
}

const textOf = (...path: string[]): string => readFileSync(join(packageRoot, ...path), 'utf8');

const resources = (file: string): Resource[] =>
  parseAllDocuments(textOf('deploy', 'kubernetes', file)).map((document) => document.toJS() as Resource);

/** @throws Error unless there is exactly one */
function only(file: string, kind: string): Resource {
  const [found, ...more] = resources(file).filter((resource) => resource.kind === kind);
  if (found === undefined || more.length > 0) throw new Error(`${file} must have one ${kind}`);
  return found;
}

interface Container {
  readonly args?: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
}

interface Pod {
  readonly metadata: { readonly annotations: Record<string, string> };
  readonly spec: { readonly terminationGracePeriodSeconds: number; readonly containers: readonly [Container] };
}

const deployment = only('sortie.yaml', 'Deployment');
const { template } = deployment.spec as { readonly template: Pod };
const [container] = template.spec.containers;
const variables = ({ env }: Container) => Object.fromEntries(env.map(({ name, value }) => [name, value]));

void t.test('HTTPRoute is valid by the schema of Gateway API, and a copy with a mistake is not', (t) => {
  const route = only('route.yaml', 'HTTPRoute') as unknown as ConstructorParameters<typeof HTTPRoute>[0];
  new HTTPRoute(route).validate();
  const wrong = JSON.parse(JSON.stringify(route).replace('PathPrefix', 'Prefix')) as typeof route;
  t.throws(() => {
    new HTTPRoute(wrong).validate();
  });
  const service = only('sortie.yaml', 'Service');
  const { ports } = service.spec as { readonly ports: readonly { port: number }[] };
  const backends = route?.spec.rules?.flatMap(({ backendRefs }) => backendRefs ?? []);
  t.match(backends, [{ name: service.metadata.name, port: ports[0]?.port }], 'its backend is the Service');
  t.end();
});

void t.test('probes and scrapes use a port whose connections clients cannot exhaust', async (t) => {
  const port = (name: string) => container.ports.find((each) => each.name === name)?.containerPort;
  t.type(port('ops'), 'number');
  t.not(port('ops'), port('http'));
  t.equal(variables(container).SORTIE_OPS_PORT, String(port('ops')));
  t.equal(template.metadata.annotations['prometheus.io/port'], String(port('ops')));
  const ready = { httpGet: { path: '/health/ready', port: 'ops' } };
  t.match(container, { startupProbe: ready, readinessProbe: ready });
  t.match(container, { livenessProbe: { httpGet: { path: '/health', port: 'ops' } } });
  // With the manifest's own variables, a picker can scrape the metrics.
  const { mainMetrics, opsPort } = resolveOptions({}, variables(container));
  const server = await build(t, undefined, { options: { mainMetrics, opsPort } });
  for (const url of [server.url, server.opsUrl]) t.equal((await fetch(`${url}/metrics`)).status, 200);
});

void t.test("KServe's runtime starts the server as the Deployment does, and the service asks for that runtime", (t) => {
  interface Runtime {
    readonly containers: readonly [Container];
    readonly supportedModelFormats: readonly { readonly name: string }[];
  }
  const { metadata, spec } = only('kserve.yaml', 'ServingRuntime');
  const { containers, supportedModelFormats } = spec as Runtime;
  const [kserve] = containers;
  // The server takes these arguments, after KServe has put in the name.
  const [command, ...args] = (kserve.args ?? []).map((each) => each.replace('{{.Name}}', metadata.name));
  t.equal(command, 'serve');
  const flags = { model: args[args.indexOf('--model') + 1], modelName: args[args.indexOf('--model-name') + 1] };
  const options = resolveOptions(flags, variables(kserve));
  t.match(options, { model: '/mnt/models', modelName: ['sortie'], threads: 2, drainTimeout: 30 });
  t.same(kserve.ports[0]?.containerPort, options.port);
  t.match(kserve, { startupProbe: { httpGet: { path: '/health/ready', port: options.port } } });
  t.match(only('kserve.yaml', 'InferenceService').spec, {
    predictor: {
      model: { runtime: metadata.name, modelFormat: { name: supportedModelFormats[0]?.name } },
      terminationGracePeriodSeconds: template.spec.terminationGracePeriodSeconds,
      enableServiceLinks: false,
    },
  });
  t.end();
});

void t.test('the grace period exceeds the sleep before SIGTERM plus the drain', (t) => {
  const { lifecycle } = container as Container & { lifecycle: { preStop: { sleep: { seconds: number } } } };
  const drain = Number(variables(container).SORTIE_DRAIN_TIMEOUT);
  t.ok(template.spec.terminationGracePeriodSeconds > lifecycle.preStop.sleep.seconds + drain);
  t.end();
});

void t.test('variables that Kubernetes sets for the Service are not options', (t) => {
  const { metadata } = only('sortie.yaml', 'Service');
  const variable = `${metadata.name.toUpperCase().replaceAll('-', '_')}_PORT`;
  t.throws(() => resolveOptions({}, { [variable]: 'tcp://10.96.12.7:80' }), { message: /SORTIE_PORT must be/ });
  t.match(template.spec, { enableServiceLinks: false });
  t.end();
});

void t.test('the autoscaler scales the Deployment by load, and no other file resets the replicas', (t) => {
  interface Scaler {
    readonly minReplicaCount: number;
    readonly triggers: readonly { readonly metricType: string; readonly metadata: { readonly query: string } }[];
  }
  const spec = only('autoscaling.yaml', 'ScaledObject').spec as Scaler;
  t.match(spec, { scaleTargetRef: { name: deployment.metadata.name } });
  const averages = spec.triggers.filter(({ metricType }) => metricType === 'AverageValue');
  t.equal(averages.length, 1);
  for (const series of ['sortie_num_requests_running', 'sortie_num_requests_waiting'])
    t.match(averages[0]?.metadata.query, series, 'the series falls only with the load');
  const scaleDown = { policies: [{ type: 'Pods', value: 1, periodSeconds: 120 }] };
  t.match(spec, { advanced: { horizontalPodAutoscalerConfig: { behavior: { scaleDown } } } });
  t.notOk('cooldownPeriod' in spec, 'cooldownPeriod is for scaling to 0');
  t.ok(spec.minReplicaCount > 0);
  t.notOk('replicas' in deployment.spec, 'an apply keeps the number of replicas');
  t.end();
});

// Rules, alerts, dashboard and cluster files name only series that the server exports.

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

// The systemd unit against the server that it starts.

const unit = join(packageRoot, 'deploy', 'systemd', 'sortie.service');
const unitLines = readFileSync(unit, 'utf8').split('\n');

/** All values of a setting, joined as systemd joins them. */
const valueOf = (name: string): string =>
  unitLines.flatMap((line) => (line.startsWith(`${name}=`) ? [line.slice(name.length + 1)] : [])).join(' ');

void t.test('systemd accepts the unit', { skip: missing('systemd-analyze') }, (t) => {
  t.match(spawnSync('systemd-analyze', ['verify', unit], { encoding: 'utf8' }), { status: 0, stderr: '' });
  t.end();
});

void t.test('the stop time covers the drain, and the signal is the one that drains', (t) => {
  t.ok(Number(valueOf('TimeoutStopSec')) > SERVE_OPTIONS.drainTimeout.default);
  t.equal(valueOf('KillSignal'), 'SIGTERM');
  t.end();
});

void t.test('flags and variables are those of the server', (t) => {
  const flags = [...valueOf('ExecStart').matchAll(/--([a-z-]+)/g)].map(([, flag = '']) => flag);
  const variables = [...valueOf('Environment').matchAll(/SORTIE_\w+/g)].map(([name]) => name);
  const options: string[] = Object.values(SERVE_OPTIONS).map(({ flag }) => flag);
  t.same([flags, variables], [['config'], ['SORTIE_CACHE_DIR']]);
  for (const flag of flags) t.ok(options.includes(flag), flag);
  for (const name of variables) t.ok(options.map(environmentName).includes(name), name);
  t.end();
});
