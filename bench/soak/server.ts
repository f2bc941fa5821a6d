/** The two processes of a server under a soak. */
import type { Server } from '../server.js';
import { setTimeout as sleep } from 'node:timers/promises';
import { childrenOf, waitedMs } from './memory.js';

export interface SoakServer {
  readonly url: string;
  /** Process ids. */
  readonly gateway: number;
  /** That of the present engine. @throws Error while the gateway has none */
  readonly engine: number;
}

export function soakServer({ url, pid: gateway }: Server): SoakServer {
  return {
    url,
    gateway,
    get engine() {
      const [engine] = childrenOf(gateway);
      if (engine === undefined) throw new Error('no engine process');
      return engine;
    },
  };
}

/** Reads the waits of both processes for a core. */
export const waits =
  ({ gateway, engine }: SoakServer) =>
  () =>
    [gateway, engine].map(waitedMs);

/** Polls an idle server until it has an engine, and nothing runs or waits. @returns the sequences that are left */
export async function liveAtRest(
  { url, gateway }: Pick<SoakServer, 'url' | 'gateway'>,
  polls: number,
): Promise<number> {
  let left = await live(url);
  for (; polls > 0 && (left > 0 || childrenOf(gateway).length === 0); polls--) {
    await sleep(200);
    left = await live(url);
  }
  return left;
}

/** Running and waiting sequences, by the server's metrics. Idle connections may close under a fetch, so it tries twice. */
async function live(url: string): Promise<number> {
  const get = () => fetch(`${url}/metrics`);
  const text = await (await get().catch(get)).text();
  const of = (name: string): number => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1]);
  return of('sortie_num_requests_running') + of('sortie_num_requests_waiting');
}
