/** Servers under test, Sortie and llama-server, each a process on a free port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.js';

export interface Server {
  readonly url: string;
  readonly pid: number;
  /** @returns the exit code; null for a process that a signal killed */
  readonly stop: () => Promise<number | null>;
}

/** Path of the built command line. */
export const main = fileURLToPath(new URL('../src/main.js', import.meta.url));

/** Most time until a server is ready. */
const LIMIT_MS = 120_000;

/** Starts `sortie serve`. @param options flags and values other than model, port and log level */
export function startSortie(model: string, options: readonly string[]): Promise<Server> {
  const serve = ['serve', '--port', 'PORT', '--host', '127.0.0.1', '--model', model, '--log-level', 'warn'];
  return startServer([process.execPath, ...process.execArgv, main, ...serve, ...options], '/health/ready');
}

/** Finds a program in a build of llama.cpp. @throws Error if it is missing */
export function peerProgram(dir: string, name: string): string {
  const folders = [dir, join(dir, 'build', 'bin'), join(dir, 'llama.cpp', 'build', 'bin')];
  const found = folders.map((folder) => join(folder, name)).find((file) => existsSync(file));
  if (!found) throw new Error(`--peer: no ${name} in ${dir}`);
  return found;
}

/** Starts llama-server with 1,024 positions per slot. @param attention flash attention: on, off or auto */
export function startPeer(
  dir: string,
  model: string,
  { threads, slots, attention }: { threads: number; slots: number; attention: string },
): Promise<Server> {
  const compute = ['-t', String(threads), '-np', String(slots), '-c', String(slots * 1024), '-fa', attention];
  const serve = ['--host', '127.0.0.1', '--port', 'PORT', '--no-ui'];
  return startServer([peerProgram(dir, 'llama-server'), '-m', model, ...compute, ...serve], '/health');
}

/** Uses a server, and stops it afterwards. */
export async function withServer<T>(starting: Promise<Server>, use: (server: Server) => Promise<T>): Promise<T> {
  const server = await starting;
  try {
    return await use(server);
  } finally {
    await server.stop();
  }
}

/** Stops servers, the last one first: it may use those in front of it. */
export async function stopServers(servers: readonly Server[]): Promise<void> {
  for (const server of [...servers].reverse()) await server.stop();
}

/**
 * Its standard output appears on the bench's standard error.
 * @param command program and arguments; PORT in an argument stands for the port
 * @param fixed a port that the command names already; absent: a free one
 * @throws Error if the server exits, or is not ready within the limit
 */
export async function startServer(command: readonly string[], readyPath: string, fixed?: number): Promise<Server> {
  const port = fixed ?? (await freePort());
  const [program = '', ...args] = command.map((part) => part.replace('PORT', String(port)));
  const child = spawn(program, args, { stdio: ['ignore', 2, 'pipe'] });
  let errors = '';
  child.stderr?.on('data', (data: Buffer) => (errors = (errors + data.toString()).slice(-2000)));
  const url = `http://127.0.0.1:${port}`;
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`${program} exited with code ${child.exitCode}: ${errors}`);
    if (Date.now() > deadline) {
      await stop(child);
      throw new Error(`${program} was not ready within ${LIMIT_MS} ms: ${errors}`);
    }
    const ready = await fetch(`${url}${readyPath}`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ready) return { url, pid: child.pid ?? 0, stop: () => stop(child) };
    await sleep(100);
  }
}

async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const killer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(killer);
  return child.exitCode;
}
