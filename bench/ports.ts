/** Free ports for servers that a test or a bench starts. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Ports below the ephemeral ones of Linux (32,768 and up): a client's connection never takes one of them. */
const [FIRST, COUNT] = [20_000, 12_000] as const;

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    await once(server.listen(port, '127.0.0.1'), 'listening');
  } catch {
    return false;
  }
  await once(server.close(), 'close');
  return true;
}

/** Different ports of the loopback address that are free at this instant. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (!ports.has(port) && (await isFree(port))) ports.add(port);
  }
  return [...ports];
}

/** A port of the loopback address that is free at this instant. */
export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1);
  return port;
}
