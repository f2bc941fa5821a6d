/**
 * Handles requests that Node.js would reject by itself and without a body. CONNECT and a request without Host get an
 * error like any other, and an unknown Expect is ignored. A second Host header, which Node.js would ignore, is an error.
 * So is a coded body, which Node.js would pass on as it is, and a host that this server does not serve.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { quoted } from '../../util/quoted.js';
import { rejectSocket } from './errors.js';

/** @param isServed see allowed-hosts.ts */
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
