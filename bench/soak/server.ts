/** The server of a soak: a process on a free port, whose log shows warnings and errors. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { main } from '../server.js';
import { childrenOf } from './memory.js';

/** Level of warnings in pino. */
const LOG_WARN = 40;

export interface SoakServer {
  readonly child: ChildProcess;
  readonly url: string;
  /** Process ids. */
  readonly gateway: number;
  readonly engine: number;
}

/** Starts the server and waits until it is ready. @throws Error if it exits */
export async function startServer(options: readonly string[]): Promise<SoakServer> {
  const args = ['serve', '--port', '0', '--host', '127.0.0.1', ...options];
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((resolve, reject) => {
    child.once('exit', (code) => {
      reject(new Error(`the server exited with code ${code ?? 'unknown'}`));
    });
    createInterface(child.stdout).on('line', (line) => {
      if (!line.startsWith('{')) return;
      const entry = JSON.parse(line) as { level: number; port?: number };
      if (entry.port !== undefined) resolve(entry.port);
      if (entry.level >= LOG_WARN) console.error(`log: ${line}`);
    });
  });
  const url = `http://127.0.0.1:${port}`;
  while (!(await fetch(`${url}/health/ready`)).ok) await sleep(200);
  const gateway = child.pid ?? 0;
  const [engine] = childrenOf(gateway);
  if (engine === undefined) throw new Error('no engine process');
  return { child, url, gateway, engine };
}

/** Running and waiting sequences, by the server's metrics. Idle connections may close under a fetch, so it tries twice. */
export async function live(url: string): Promise<number> {
  const get = () => fetch(`${url}/metrics`);
  const text = await (await get().catch(get)).text();
  const of = (name: string): number => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1]);
  return of('sortie_num_requests_running') + of('sortie_num_requests_waiting');
}
