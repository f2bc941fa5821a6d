/** The open responses of a server by their connections, and the end of each: sent or aborted. */
import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyRequest } from 'fastify';
import { ClientGone } from '../api/errors.js';
import { monotonicMs } from '../../util/clock.js';

/** A response from the arrival of its request on. It has one listener of each event, however many parts wait for it. */
export class OpenResponse {
  readonly #listeners: (() => void)[] = [];
  #isSent = false;

  constructor(
    private readonly raw: ServerResponse,
    private readonly socket: Socket,
  ) {
    // `finish` also fires for the unsent rest of a destroyed socket.
    raw.prependOnceListener('finish', () => (this.#isSent = !socket.destroyed));
    raw.once('close', () => {
      this.close();
    });
  }

  /** Calls the listener once when the response has ended or its connection is closed. */
  onClosed(listener: () => void): void {
    if (this.raw.destroyed || this.socket.destroyed) listener();
    else this.#listeners.push(listener);
  }

  /** Tells the end, once. */
  close(): void {
    for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Whether every byte went out. `writableFinished` is also true after a socket was destroyed with unsent bytes. */
  get isSent(): boolean {
    return this.#isSent;
  }

  /** The status that the client got. A client that left before any status counts as 499, nginx's number for it. */
  get status(): number {
    return this.raw.headersSent ? this.raw.statusCode : 499;
  }

  /**
   * Aborts with `ClientGone` when the client disconnects before the end of the response. (`request.signal` fires too
   * early.)
   */
  abortSignal(): AbortSignal {
    const gone = new AbortController();
    this.onClosed(() => {
      if (!this.#isSent) gone.abort(new ClientGone());
    });
    return gone.signal;
  }
}

interface Connection {
  readonly open: Map<OpenResponse, FastifyRequest>;
  /** Bytes that the client has taken, and the time of the last progress. */
  taken: number;
  movedAt: number;
}

export class OpenResponses {
  readonly #connections = new Map<Socket, Connection>();
  readonly #sweep: NodeJS.Timeout;

  /**
   * @param most connections at a time; by Node.js's own bound, full workers would hand one to each other for ever
   * @param stallMs how long a connection may hold unsent bytes while the client reads none
   */
  constructor(server: Server, most: number, stallMs: number) {
    server.on('connection', (socket: Socket) => {
      this.#add(socket);
      if (this.#connections.size > most) socket.destroy();
    });
    const cut = (): void => {
      for (const each of this.#connections) cutIfStalled(each, stallMs);
    };
    this.#sweep = setInterval(cut, Math.min(1000, stallMs / 4)).unref();
  }

  #add(socket: Socket): Connection {
    const connection: Connection = { open: new Map(), taken: 0, movedAt: monotonicMs() };
    this.#connections.set(socket, connection);
    // A pipelined response that waits for its turn never emits `close` when the connection goes.
    socket.once('close', () => {
      this.#connections.delete(socket);
      for (const response of [...connection.open.keys()]) response.close();
    });
    return connection;
  }

  /** Responses that have not ended. */
  get size(): number {
    return [...this.#connections.values()].reduce((sum, { open }) => sum + open.size, 0);
  }

  watch(request: FastifyRequest, raw: ServerResponse): void {
    const { socket } = request.raw;
    const response = (request.response = new OpenResponse(raw, socket));
    const known = this.#connections.get(socket);
    const { open } = known ?? this.#add(socket);
    open.set(response, request);
    response.onClosed(() => {
      open.delete(response);
      // A request without a connection was injected, on a socket of its own.
      if (known === undefined) this.#connections.delete(socket);
    });
  }

  close(): void {
    clearInterval(this.#sweep);
  }
}

/** Cuts a connection whose client does not read. */
function cutIfStalled([socket, connection]: [Socket, Connection], stallMs: number): void {
  const [request] = connection.open.values();
  if (request === undefined) return;
  const unsent = socket.writableLength;
  const taken = socket.bytesWritten - unsent;
  const now = monotonicMs();
  if (unsent === 0 || connection.taken !== taken) Object.assign(connection, { taken, movedAt: now });
  else if (now - connection.movedAt >= stallMs) {
    request.log.warn({ unsent }, 'the client does not read; cutting its connection');
    socket.destroy();
  }
}
