/** Two replicas of the built server behind a proxy, with the files of deploy/ and free ports. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';
import type { Test } from 'tap';
import { freePorts } from '../../bench/ports.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { main, start, untilReady } from './helper.js';
import { until } from '../support/until.js';

export type ProxyName = 'envoy' | 'haproxy' | 'nginx';
const PROXIES = ['envoy', 'haproxy', 'nginx'] as const;

/** A reason to skip, or false. */
export function missing(program: string): string | false {
  return spawnSync(program, ['-v']).error === undefined ? false : `${program} is not installed`;
}

/** One replica, which can be started again on its port. */
export class Replica {
  #process: ChildProcess | null = null;
  readonly #t: Test;
  readonly #args: readonly string[];
  readonly url: string;
  readonly opsUrl: string;
  readonly opsPort: number;
  /** The lines of its log. */
  readonly lines: string[] = [];

  constructor(t: Test, model: string, port: number, opsPort: number, options: readonly string[]) {
    this.#t = t;
    this.url = `http://127.0.0.1:${port}`;
    this.opsPort = opsPort;
    this.opsUrl = `http://127.0.0.1:${opsPort}`;
    const ports = ['--port', String(port), '--ops-port', String(opsPort), '--main-metrics', 'on'];
    const shared = ['--host', '127.0.0.1', '--threads', '1', '--trusted-proxies', '127.0.0.1'];
    this.#args = [main, 'serve', ...ports, ...shared, '--model', model, ...options];
  }

  get process(): ChildProcess {
    if (this.#process === null) throw new Error('the replica was not started');
    return this.#process;
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** Resolves when it is ready. */
  async start(): Promise<void> {
    const started = start(this.#t, process.execPath, this.#args);
    this.#process = started;
    let rest = '';
    started.stdout?.on('data', (data: Buffer) => {
      const lines = (rest + data.toString()).split('\n');
      rest = lines.pop() ?? '';
      this.lines.push(...lines);
    });
    await untilReady(this.opsUrl, started);
  }

  /** Sends SIGTERM. @returns the exit code after the drain */
  async stop(): Promise<number | null> {
    const exit = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    const [code] = (await exit) as [number | null];
    return code;
  }

  /** The requests in its log. */
  requests(): Record<string, unknown>[] {
    return this.lines
      .filter((line) => line.includes('"msg":"request"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

/** A change of a proxy's configuration. */
type Change = (text: string) => string;

export interface Pool {
  readonly url: string;
  readonly replicas: readonly [Replica, Replica];
  /** Where each replica has its own path, for operators. */
  readonly operationsUrl: string;
}

/** Replaces each port of a deployed file; a port that is missing there is an error. */
export function withPorts(file: string, ports: Readonly<Record<string, number>>): string {
  let text = readFileSync(join(packageRoot, 'deploy', file), 'utf8');
  for (const [from, to] of Object.entries(ports)) {
    const pattern = new RegExp(`(?<=:|port |listen |port_value: |-port )${from}\\b`, 'g');
    if (!pattern.test(text)) throw new Error(`${file} must name port ${from}`);
    text = text.replace(pattern, String(to));
  }
  return text;
}

/** Starts a proxy. @param change of the configuration of Envoy or nginx. @returns the addresses for clients and for operators */
export async function startProxy(
  t: Test,
  proxy: ProxyName,
  replicas: Pool['replicas'],
  change: Change,
): Promise<[string, string]> {
  const [front = 0, operations = 0] = await freePorts(2);
  const [a, b] = replicas.map(({ url }) => Number(new URL(url).port)) as [number, number];
  const dir = join(t.testdirName, proxy);
  mkdirSync(dir, { recursive: true });
  if (proxy === 'envoy') {
    const ports = { 8080: front, 8081: a, 8082: b, 9081: replicas[0].opsPort, 9082: replicas[1].opsPort };
    const file = join(dir, 'envoy.yaml');
    const text = withPorts('envoy/envoy.yaml', { ...ports, 9901: operations }).replace('0.0.0.0', '127.0.0.1');
    writeFileSync(file, change(text));
    // Without shared memory between restarts, several can run on a machine.
    start(t, 'envoy', ['-c', file, '--disable-hot-restart', '--concurrency', '1', '-l', 'error']).stdout?.resume();
  } else if (proxy === 'haproxy') {
    const ports = { 8080: front, 8081: a, 8082: b, 9081: replicas[0].opsPort, 9082: replicas[1].opsPort };
    const file = join(dir, 'haproxy.cfg');
    writeFileSync(file, withPorts('haproxy/haproxy.cfg', { ...ports, 8404: operations }));
    start(t, 'haproxy', ['-db', '-q', '-f', file]).stdout?.resume();
  } else {
    const text = withPorts('nginx/sortie.conf', { 8080: front, 8081: a, 8082: b });
    writeFileSync(join(dir, 'sortie.conf'), change(text));
    const main = `daemon off; pid ${dir}/nginx.pid; error_log stderr crit; worker_processes 1;
      events { worker_connections 4096; }
      http { access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy;
      fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s; include ${dir}/sortie.conf; }`;
    writeFileSync(join(dir, 'nginx.conf'), main);
    start(t, 'nginx', ['-p', dir, '-c', join(dir, 'nginx.conf'), '-e', 'stderr']);
  }
  const url = `http://127.0.0.1:${front}`;
  return [url, proxy === 'nginx' ? url : `http://127.0.0.1:${operations}`];
}

/** Two ready replicas. @param options more of their flags */
export async function startReplicas(t: Test, model: string, options: readonly string[]): Promise<Pool['replicas']> {
  const [portA = 0, opsA = 0, portB = 0, opsB = 0] = await freePorts(4);
  const replicas = [new Replica(t, model, portA, opsA, options), new Replica(t, model, portB, opsB, options)] as const;
  await Promise.all(replicas.map((replica) => replica.start()));
  return replicas;
}

/** Starts a proxy in front of running replicas. @param change of the configuration of Envoy or nginx, for tests of other settings */
export async function startBefore(
  t: Test,
  proxy: ProxyName,
  replicas: Pool['replicas'],
  change: Change = (text) => text,
): Promise<Pool> {
  const [url, operationsUrl] = await startProxy(t, proxy, replicas, change);
  await until('the proxy', async () => (await fetch(`${url}/health/ready`)).ok);
  // HAProxy starts with all replicas up, before its first check.
  await sleep(600);
  return { url, replicas, operationsUrl };
}

/** Two ready replicas behind a proxy that sees both. @param options more flags of the replicas */
export async function startPool(
  t: Test,
  proxy: ProxyName,
  model: string,
  options: readonly string[] = [],
): Promise<Pool> {
  return startBefore(t, proxy, await startReplicas(t, model, options));
}

/**
 * Starts two replicas behind all proxies, and tests them through each proxy in turn; a missing proxy is skipped.
 * @param options more flags of the replicas
 */
export async function throughEach(
  t: Test,
  model: string,
  options: readonly string[],
  test: (t: Test, proxy: ProxyName, pool: Pool) => Promise<void>,
): Promise<void> {
  const replicas = await startReplicas(t, model, options);
  for (const proxy of PROXIES) {
    await t.test(proxy, { skip: missing(proxy) }, async (t) => {
      await test(t, proxy, await startBefore(t, proxy, replicas));
    });
  }
}

/** Two ready replicas behind all installed proxies. @param options more flags of the replicas */
export async function startPools(
  t: Test,
  model: string,
  options: readonly string[],
): Promise<readonly (readonly [ProxyName, Pool])[]> {
  const replicas = await startReplicas(t, model, options);
  const installed = PROXIES.filter((proxy) => missing(proxy) === false);
  return Promise.all(installed.map(async (proxy) => [proxy, await startBefore(t, proxy, replicas)] as const));
}

/** A replica as HAProxy sees it. @returns its sessions so far, and UP or DOWN */
export async function haproxyServer(
  { operationsUrl }: Pool,
  name: 'a' | 'b',
): Promise<[sessions: number, state: string]> {
  const [head = '', ...rows] = (await (await fetch(`${operationsUrl}/stats;csv`)).text()).split('\n');
  const columns = head.split(',');
  const row = rows.find((line) => line.startsWith(`sortie,${name},`))?.split(',') ?? [];
  const value = (column: string): string => row[columns.indexOf(column)] ?? '';
  return [Number(value('stot')), value('status').split(' ')[0] ?? ''];
}

/** Whether Envoy sends requests to a replica. */
export async function isHealthy({ operationsUrl }: Pool, { url }: Replica): Promise<boolean> {
  const text = await (await fetch(`${operationsUrl}/clusters`)).text();
  return text.includes(`\nsortie::${new URL(url).host}::health_flags::healthy\n`);
}

/** Sequences that run or wait at a replica. */
export async function inFlightAt({ opsUrl }: Replica): Promise<number> {
  const text = await (await fetch(`${opsUrl}/metrics`)).text();
  const values = ['running', 'waiting'].map((name) =>
    Number(new RegExp(`^sortie_num_requests_${name}(?:\\{.*\\})? (\\S+)$`, 'm').exec(text)?.[1]),
  );
  return values.reduce((sum, value) => sum + value, 0);
}

/** Sequences that run or wait at both replicas. */
export async function inFlight({ replicas }: Pool): Promise<number> {
  return (await inFlightAt(replicas[0])) + (await inFlightAt(replicas[1]));
}

export function post(url: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}
