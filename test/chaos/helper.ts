/** Helpers of the chaos tests: requests under load, resources of a process, raw sockets. */
import { readdirSync } from 'node:fs';
import net from 'node:net';
import type { Test } from 'tap';
import { residentMb } from '../../bench/processes.js';
import { engineBelow, inFlightAt, type Sortie } from '../deploy/helper.js';
import { post as postJson } from '../support/post.js';
import { until } from '../support/until.js';

export { metric, serve, tinyModel, untilReady } from '../deploy/helper.js';

export const pidOf = (server: Sortie): number => server.process.pid ?? 0;

export const enginePid = (server: Sortie): number => engineBelow(server.process.pid);

/** Resident memory of gateway and engine together in MB. */
export const memoryOf = (server: Sortie): number => residentMb(pidOf(server)) + residentMb(enginePid(server));

/** Open files and sockets of the gateway. */
export const openFiles = (server: Sortie): number => readdirSync(`/proc/${pidOf(server)}/fd`).length;

export const post = (server: Sortie, path: string, body: object, headers: Record<string, string> = {}) =>
  postJson(server.url + path, body, headers);

/** Waits until no sequence runs or waits. */
export const untilIdle = ({ url }: Sortie): Promise<void> => until('idle', async () => (await inFlightAt(url)) === 0);

/** An error of a request with its cause. */
export const reasonOf = (error: unknown): string =>
  error instanceof Error ? `${error.message} ${String(error.cause)}` : String(error);

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
