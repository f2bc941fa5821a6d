/**
 * The order in which requests begin, one in a turn of the event loop. A turn accepts one connection, so a connection
 * behind a flood waits for the work of a turn for each of them: most turns in which requests arrive begin none.
 */
import type { FastifyInstance } from 'fastify';

/** Turns with arrivals for each request that begins meanwhile. */
const TURNS = 4;

export class Turns {
  /** Of each tenant, in the order of their turns. */
  readonly #waiting = new Map<string, Set<() => void>>();
  #hasArrival = false;
  #left = TURNS;

  /** Calls back in the turn of the tenant's next request. */
  next(tenant: string, begin: () => void): void {
    this.#hasArrival = true;
    if (this.#waiting.size === 0) this.#later();
    this.#waiting.set(tenant, (this.#waiting.get(tenant) ?? new Set()).add(begin));
  }

  #later(): void {
    setImmediate(() => {
      this.#left = this.#hasArrival ? this.#left - 1 : 0;
      this.#hasArrival = false;
      if (this.#left <= 0) this.#begin();
      if (this.#waiting.size > 0) this.#later();
    });
  }

  #begin(): void {
    this.#left = TURNS;
    const [[tenant, own] = []] = this.#waiting;
    const [begin] = own ?? [];
    if (tenant === undefined || own === undefined || begin === undefined) return;
    own.delete(begin);
    this.#waiting.delete(tenant);
    if (own.size > 0) this.#waiting.set(tenant, own);
    begin();
  }
}

/** Requests of endpoints wait for their turn ahead of their body. */
export function registerTurns(app: FastifyInstance): void {
  const turns = new Turns();
  app.addHook('preParsing', ({ caller, routeOptions }, _reply, _payload, done) => {
    if (routeOptions.config.endpoint === undefined) done();
    else
      turns.next(caller.tenant, () => {
        done();
      });
  });
}
