/** Two replicas of the built server behind Envoy, with the file of deploy/ and free ports. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChildProcess } from 'node:child_process';
import type { Test } from 'tap';
import { freePorts } from '../../bench/ports.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { post as postJson } from '../support/post.js';
import { inFlightAt, main, start, stopped, untilReady } from './helper.js';
import { until } from '../support/until.js';

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
  stop(): Promise<number | null> {
    return stopped(this.process);
  }

  /** The requests in its log. */
  requests(): Record<string, unknown>[] {
    return this.lines
      .filter((line) => line.includes('"msg":"request"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }
}

/** A change of Envoy's configuration. */
type Change = (text: string) => string;

export interface Pool {
  readonly url: string;
  readonly replicas: readonly [Replica, Replica];
  /** Envoy's own port for operators. */
  readonly operationsUrl: string;
}

/** The file of deploy/ with other ports; a port that is missing there is an error. */
function withPorts(ports: Readonly<Record<string, number>>): string {
  let text = readFileSync(join(packageRoot, 'deploy', 'envoy', 'envoy.yaml'), 'utf8');
  for (const [from, to] of Object.entries(ports)) {
    const pattern = new RegExp(`(?<=port_value: )${from}\\b`, 'g');
    if (!pattern.test(text)) throw new Error(`envoy.yaml must name port ${from}`);
    text = text.replace(pattern, String(to));
  }
  return text;
}

/** Starts Envoy. @returns the addresses for clients and for operators */
export async function startEnvoy(t: Test, replicas: Pool['replicas'], change: Change): Promise<[string, string]> {
  const [front = 0, operations = 0] = await freePorts(2);
  const [a, b] = replicas.map(({ url }) => Number(new URL(url).port)) as [number, number];
  const ports = { 8080: front, 8081: a, 8082: b, 9081: replicas[0].opsPort, 9082: replicas[1].opsPort };
  const file = join(t.testdirName, 'envoy.yaml');
  mkdirSync(t.testdirName, { recursive: true });
  writeFileSync(file, change(withPorts({ ...ports, 9901: operations }).replace('0.0.0.0', '127.0.0.1')));
  // Without shared memory between restarts, several can run on a machine.
  start(t, 'envoy', ['-c', file, '--disable-hot-restart', '--concurrency', '1', '-l', 'error']).stdout?.resume();
  return [`http://127.0.0.1:${front}`, `http://127.0.0.1:${operations}`];
}

/** Two ready replicas. @param options more of their flags */
export async function startReplicas(t: Test, model: string, options: readonly string[]): Promise<Pool['replicas']> {
  const [portA = 0, opsA = 0, portB = 0, opsB = 0] = await freePorts(4);
  const replicas = [new Replica(t, model, portA, opsA, options), new Replica(t, model, portB, opsB, options)] as const;
  await Promise.all(replicas.map((replica) => replica.start()));
  return replicas;
}

/** Starts Envoy in front of running replicas, and waits until it sees both. @param change of its configuration */
export async function startBefore(t: Test, replicas: Pool['replicas'], change: Change = (text) => text): Promise<Pool> {
  const [url, operationsUrl] = await startEnvoy(t, replicas, change);
  const pool = { url, replicas, operationsUrl };
  await until('Envoy', async () => (await fetch(`${url}/health/ready`)).ok);
  for (const replica of replicas) await until('seen', () => isHealthy(pool, replica));
  return pool;
}

/** Two ready replicas behind Envoy, which sees both. @param options more flags of the replicas */
export async function startPool(t: Test, model: string, options: readonly string[] = []): Promise<Pool> {
  return startBefore(t, await startReplicas(t, model, options));
}

/** Whether Envoy sends requests to a replica. */
export async function isHealthy({ operationsUrl }: Pool, { url }: Replica): Promise<boolean> {
  const text = await (await fetch(`${operationsUrl}/clusters`)).text();
  return text.includes(`\nsortie::${new URL(url).host}::health_flags::healthy\n`);
}

/** Sequences that run or wait at both replicas. */
export async function inFlight({ replicas }: Pool): Promise<number> {
  return (await inFlightAt(replicas[0].opsUrl)) + (await inFlightAt(replicas[1].opsUrl));
}

export const post = (url: string, body: object, headers: Record<string, string> = {}, signal?: AbortSignal) =>
  postJson(`${url}/v1/completions`, body, headers, signal);
