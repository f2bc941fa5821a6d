/** The address that the server listens on. */
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';

export interface Host {
  readonly address: string;
  /** Why this address, for the log. */
  readonly reason: string;
}

/** The default is open to the network only if each request needs a key. */
export function chooseHost(option: string | null, keyCount: number): Host {
  if (option !== null) return { address: option, reason: 'by --host' };
  if (keyCount > 0) return { address: '0.0.0.0', reason: 'every address, because requests need an API key' };
  return { address: '127.0.0.1', reason: 'this machine only, because requests need no API key; see --host' };
}

/** The URL for a client on this machine. */
export function urlOf(address: string, port: number): string {
  const isLocal = ['0.0.0.0', '::', '127.0.0.1', '::1'].includes(address);
  const name = isLocal ? 'localhost' : address.includes(':') ? `[${address}]` : address;
  return `http://${name}:${port}`;
}

/** Binds a port. @throws Error with a message for the operator: port in use, unknown address, or missing permission */
export async function listen(app: FastifyInstance, host: string, port: number, option: string): Promise<number> {
  try {
    // Fastify logs a line for each address of the machine, and the log drops empty lines. The caller logs one for all.
    await app.listen({ host, port, listenTextResolver: () => '' });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why = {
      EADDRINUSE: 'it is in use',
      EACCES: 'this user has no permission',
      EADDRNOTAVAIL: 'this machine has no such address',
    }[code ?? ''];
    throw new Error(
      `cannot listen on ${host} port ${port}: ${why ?? code ?? 'unknown error'} (see --host and --${option})`,
    );
  }
  return (app.server.address() as AddressInfo).port;
}
