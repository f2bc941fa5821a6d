/**
 * What Node.js would refuse by itself and without a body: a request without Host, an Expect that it does not know,
 * CONNECT. Here they get an error like any other, and so does a second Host, which it would overlook.
 *
 * Knows: Node's HTTP server. Must not know: routes.
 */
import type { FastifyInstance } from 'fastify';
import { ApiError } from '../../api/errors.js';
import { refuseSocket } from './errors.js';

export function registerHttpConformance(app: FastifyInstance): void {
  // Node.js 20.19.2 parses QUERY, and its list of methods lacks the name.
  app.server.prependListener('request', (request) => {
    request.method ??= 'QUERY';
  });
  // An expectation that is not met may be ignored, too: the answer says all that there is to say.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response));
  app.server.on('connect', (_request, socket) => {
    refuseSocket(socket, new ApiError('method_not_allowed', 'CONNECT is not allowed here: this is no proxy.'));
  });
  app.addHook('onRequest', (request, _reply, done) => {
    const { httpVersion, headersDistinct } = request.raw;
    // Two: a proxy before this server may have gone by the other one.
    const hosts = headersDistinct.host?.length ?? 0;
    if (hosts > 1 || (hosts === 0 && httpVersion === '1.1')) {
      throw new ApiError('bad_request', `HTTP/1.1 asks for one header Host, got ${hosts}.`, 'host');
    }
    done();
  });
}
