/** The built server as a separate process, and a model that is small enough to load immediately. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { childrenOf } from '../../bench/processes.js';
import { until } from '../support/until.js';

export const main = join(packageRoot, 'dist', 'src', 'main.js');

/** @returns the reason to skip a test that needs this program, or false */
export function missing(program: string): string | false {
  return spawnSync(program, ['--version']).error === undefined ? false : `${program} is not installed`;
}

/** Arguments of a server on a free port of this machine. Its engine has one thread: tests run beside each other. */
export function serverArgs(model: string, ...options: readonly string[]): string[] {
  return [main, 'serve', '--port', '0', '--host', '127.0.0.1', '--threads', '1', '--model', model, ...options];
}

/** Starts a program, and kills it at the end of the test. */
export function start(t: Test, command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const options = { cwd: packageRoot, env: { ...process.env, ...env } };
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], ...options });
  t.teardown(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  return child;
}

/** The address by the port in the server's log. @throws Error if the server exits first */
export async function urlOf(server: ChildProcess): Promise<string> {
  const { stdout } = server;
  if (stdout === null) throw new Error('the server has no log');
  return new Promise((resolve, reject) => {
    server.once('exit', (code) => {
      reject(new Error(`the server exited with ${code ?? 'a signal'}`));
    });
    createInterface(stdout).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const { port } = JSON.parse(line) as { port?: number };
      if (port !== undefined) resolve(`http://127.0.0.1:${port}`);
    });
  });
}

export interface Sortie {
  readonly process: ChildProcess;
  readonly url: string;
}

/**
 * A ready server; see serverArgs.
 * @param options more flags
 * @param env more variables
 */
export async function serve(
  t: Test,
  model: string,
  options: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Sortie> {
  const server = start(t, process.execPath, serverArgs(model, ...options), env);
  return { process: server, url: await readyUrl(server) };
}

/**
 * Waits until a server is ready. Ten polls per second, because each takes 3 ms from a start of some seconds.
 * @throws Error if the server exits first
 */
export async function untilReady(url: string, server: ChildProcess): Promise<void> {
  const end = (): number | string | null => server.exitCode ?? server.signalCode;
  await until('ready', async () => end() !== null || (await fetch(`${url}/health/ready`)).ok, 100);
  if (end() !== null) throw new Error(`the server exited with ${end()}`);
}

/** The address of a server once it is ready. */
export async function readyUrl(server: ChildProcess): Promise<string> {
  const url = await urlOf(server);
  await untilReady(url, server);
  return url;
}

/** Collects what a program prints. @returns the text so far */
export function printed({ stdout, stderr }: ChildProcess): () => string {
  let text = '';
  for (const output of [stdout, stderr]) output?.on('data', (data: Buffer) => (text += data.toString()));
  return () => text;
}

/** Sends a signal. @returns the exit code */
export async function stopped(server: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
  const exit = once(server, 'exit');
  server.kill(signal);
  const [code] = (await exit) as [number | null];
  return code;
}

/** The process of an engine below its gateway. @throws Error if there is none */
export function engineBelow(pid = NaN): number {
  const [engine] = childrenOf(pid);
  if (engine === undefined) throw new Error('no engine process');
  return engine;
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Sum of series over their names and labels. @param name a pattern without its prefix */
export async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = [...text.matchAll(new RegExp(`^sortie_(?:${name})(?:\\{.*\\})? (\\S+)$`, 'gm'))];
  return found.reduce((sum, [, value]) => sum + Number(value), 0);
}

/** Sequences that run or wait at a server. */
export const inFlightAt = (url: string): Promise<number> => metric(url, 'num_requests_running|num_requests_waiting');

/**
 * Puts the tiny random Llama of test/golden into `dir`, converted: as run.ts has converted it, or by itself.
 * @param context the longest sequence, for long answers
 */
export function tinyModel(dir: string, context = 256): string {
  const model = join(dir, 'tiny');
  const { SORTIE_TEST_TINY: converted = '' } = process.env;
  const ready = join(converted, String(context), 'tiny');
  if (converted !== '' && existsSync(ready)) {
    cpSync(ready, model, { recursive: true });
    return model;
  }
  const source = join(dir, 'source');
  cpSync(join(packageRoot, 'test', 'golden', 'tiny'), source, { recursive: true });
  const config = join(source, 'config.json');
  const values = JSON.parse(readFileSync(config, 'utf8')) as object;
  writeFileSync(config, JSON.stringify({ ...values, max_position_embeddings: context }));
  const args = [main, 'convert', source, '--exits', '2,5', '--kernels', 'fp32', '--out', model];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`convert: ${stderr}`);
  return model;
}
