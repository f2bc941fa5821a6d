/** Helpers of the chaos tests: requests under load, resources of a process, raw sockets. */
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import { childrenOf, residentMb } from '../../bench/processes.js';
import { packageRoot } from '../../src/cli/options/config.js';
import type { Sortie } from '../deploy/helper.js';
import { until } from '../support/until.js';

export { serve, tinyModel, untilReady } from '../deploy/helper.js';

export const embeddedModel = process.env.SORTIE_TEST_MODEL ?? join(packageRoot, 'models', 'smollm2-135m-sorted');

export const pidOf = (server: Sortie): number => server.process.pid ?? 0;

/** The engine's process id. @throws Error if there is none */
export function enginePid(server: Sortie): number {
  const [engine] = childrenOf(pidOf(server));
  if (engine === undefined) throw new Error('no engine process');
  return engine;
}

/** Resident memory of gateway and engine together in MB. */
export const memoryOf = (server: Sortie): number => residentMb(pidOf(server)) + residentMb(enginePid(server));

/** Open files and sockets of the gateway. */
export const openFiles = (server: Sortie): number => readdirSync(`/proc/${pidOf(server)}/fd`).length;

export function post(server: Sortie, path: string, body: object, headers: Record<string, string> = {}) {
  return fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
}

/** Sum of a series over its labels. */
export async function metric(server: Sortie, name: string): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  return [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
}

/** Waits until no sequence runs or waits. */
export async function untilIdle(server: Sortie): Promise<void> {
  await until('idle', async () => {
    const live =
      (await metric(server, 'sortie_num_requests_running')) + (await metric(server, 'sortie_num_requests_waiting'));
    return live === 0;
  });
}

export interface RawConnection {
  readonly socket: net.Socket;
  /** The server's whole output on the connection, once it is closed. */
  readonly closed: Promise<string>;
}

/** Opens a connection, writes bytes, and leaves it open. */
export function raw(t: Test, server: Sortie, bytes: string): RawConnection {
  const { hostname, port } = new URL(server.url);
  const socket = net.connect(Number(port), hostname, () => socket.write(bytes));
  t.teardown(() => socket.destroy());
  let text = '';
  socket.on('data', (data: Buffer) => (text += data.toString()));
  // A reset ends a connection like a close does.
  socket.on('error', () => undefined);
  const closed = new Promise<string>((resolve) => {
    socket.once('close', () => {
      resolve(text);
    });
  });
  return { socket, closed };
}
