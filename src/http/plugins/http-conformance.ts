/**
 * Handles requests that Node.js would reject by itself and without a body. CONNECT and a request without Host get an
 * error like any other, and an unknown Expect is ignored. A second Host header, which Node.js would ignore, is an error.
 * So is a coded body, which Node.js would pass on as it is, and a host that this server does not serve.
 */
import { isIP } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { chooseHost } from '../../address.js';
import { ApiError } from '../../api/errors.js';
import type { ServeOptions } from '../../config.js';
import { quoted } from '../../util/quoted.js';
import { rejectSocket } from './errors.js';

/** @param isServed the result of {@link hostRule} */
export function registerHttpConformance(app: FastifyInstance, isServed: (host: string) => boolean): void {
  // Node.js 20.19.2 parses QUERY, but its list of method names lacks it.
  app.server.prependListener('request', (request) => {
    request.method ??= 'QUERY';
  });
  // A server may ignore an unmet expectation: the final response is enough.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  app.server.on('connect', (_request, socket) => {
    rejectSocket(
      socket,
      new ApiError('method_not_allowed', 'CONNECT is not allowed here: this server is not a proxy.'),
    );
  });
  app.addHook('onRequest', (request, _reply, done) => {
    const { httpVersion, headersDistinct } = request.raw;
    // With two Host headers, a proxy in front may have routed by the other one.
    const hosts = headersDistinct.host?.length ?? 0;
    if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) {
      throw new ApiError('bad_request', `HTTP/1.1 requires one Host header, got ${hosts}.`, 'host');
    }
    const { host, 'transfer-encoding': coding } = request.headers;
    if (host !== undefined && !isServed(host)) {
      const message = `This server does not serve the host ${quoted(host)}; its operator can add it to --allowed-hosts.`;
      throw new ApiError('host_not_allowed', message, 'host');
    }
    if (coding !== undefined && coding.trim().toLowerCase() !== 'chunked') {
      const message = `The transfer coding must be chunked, without another one, got ${quoted(coding)}.`;
      throw new ApiError('bad_request', message, 'transfer-encoding');
    }
    done();
  });
}

/** Names that no public DNS server resolves. */
const LOCAL = /^[^.]+$|\.(localhost|internal)$/;

/** The name of a Host header in lower case, without port and brackets; null for a malformed header. */
function nameOf(host: string): string | null {
  if (!URL.canParse(`http://${host}`)) return null;
  return new URL(`http://${host}`).hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase();
}

/** Whether only this machine reaches an address to listen on. */
function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

/**
 * The names in the Host header that the server serves.
 *
 * A web page can point its own name at 127.0.0.1 (DNS rebinding), and its scripts may then call a server on this
 * machine. Their requests carry the page's name in Host. An attacker owns neither an IP address, a reserved name nor a
 * name without a dot, so these always pass.
 *
 * @param keyCount API keys: a page without a key can call nothing of interest, so any host passes by default
 * @returns whether a Host header is served
 */
export function hostRule(
  { host, allowedHosts }: Pick<ServeOptions, 'host' | 'allowedHosts'>,
  keyCount: number,
): (header: string) => boolean {
  const { address } = chooseHost(host, keyCount);
  const isOpen = allowedHosts.length === 0 && (keyCount > 0 || !isLoopback(address));
  if (isOpen || allowedHosts.includes('*')) return () => true;
  const names = new Set([address, ...allowedHosts].map((each) => nameOf(each)));
  return (header) => {
    const name = nameOf(header);
    return name !== null && (isIP(name) !== 0 || LOCAL.test(name) || names.has(name));
  };
}
