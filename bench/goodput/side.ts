/**
 * The servers that are compared: how each is started, and how it is asked for its depth.
 *
 * Knows: processes. Must not know: load.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Server {
  readonly url: string;
  readonly stop: () => Promise<void>;
}

export interface Side {
  readonly name: string;
  /** Sides with the same start share a server. */
  readonly start: 'sortie' | 'peer';
  /** Headers of a request with that total budget. */
  readonly headers: (budgetMs: number) => Record<string, string>;
}

/**
 * Sortie with the budget (ending late, or cut at the deadline), Sortie pinned to a depth, and where it is there the peer,
 * which knows of neither.
 */
export function sidesOf(exits: readonly number[], withPeer: boolean): Side[] {
  const routed: Side = {
    name: 'routed',
    start: 'sortie',
    headers: (budgetMs) => ({ 'x-latency-budget-ms': String(Math.round(budgetMs)) }),
  };
  const truncated: Side = {
    name: 'truncate',
    start: 'sortie',
    headers: (budgetMs) => ({ ...routed.headers(budgetMs), 'x-budget-on-miss': 'truncate' }),
  };
  const fixed = exits.map((layer): Side => ({
    name: `fixed ${layer}`,
    start: 'sortie',
    headers: () => ({ 'x-exit-layer': String(layer) }),
  }));
  const peer: Side = { name: 'llama-server', start: 'peer', headers: () => ({}) };
  return [routed, truncated, ...fixed, ...(withPeer ? [peer] : [])];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * @param command program and arguments; PORT in an argument stands for the port
 * @throws Error when it ends or isn't ready within the limit
 */
export async function startServer(command: readonly string[], readyPath: string, limitMs: number): Promise<Server> {
  const port = await freePort();
  const [program = '', ...args] = command.map((part) => part.replace('PORT', String(port)));
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)));
  const url = `http://127.0.0.1:${port}`;
  const deadline = Date.now() + limitMs;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${program} ended with code ${child.exitCode}: ${errors}`);
    if (Date.now() > deadline) {
      await stop(child);
      throw new Error(`${program} was not ready within ${limitMs} ms: ${errors}`);
    }
    const ready = await fetch(`${url}${readyPath}`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) return { url, stop: () => stop(child) };
    await sleep(100);
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(killer);
}
