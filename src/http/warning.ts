/** The header that tells a client which of its fields have no effect. */
import type { FastifyReply } from 'fastify';
import type { HeadersOf, warningHeader } from '../api/schemas/headers.js';

const NAME: keyof HeadersOf<typeof warningHeader> = 'x-sortie-warning';

/** Adds a sentence to the header. The status line must not be sent. */
export function warn(reply: FastifyReply, text: string): void {
  const said = reply.getHeader(NAME);
  void reply.header(NAME, said === undefined ? text : `${String(said)} ${text}`);
}
