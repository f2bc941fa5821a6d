/** The two processes of a server under a soak. */
import type { Server } from '../server.js';
import { childrenOf } from './memory.js';

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

/** Running and waiting sequences, by the server's metrics. Idle connections may close under a fetch, so it tries twice. */
export async function live(url: string): Promise<number> {
  const get = () => fetch(`${url}/metrics`);
  const text = await (await get().catch(get)).text();
  const of = (name: string): number => Number(new RegExp(`^${name}\\{.*\\} (\\S+)$`, 'm').exec(text)?.[1]);
  return of('sortie_num_requests_running') + of('sortie_num_requests_waiting');
}
