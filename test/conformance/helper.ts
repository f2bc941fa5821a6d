/** The built server with the embedded model, in its own process, for clients that know only the API. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { packageRoot } from '../../src/cli/options/config.js';
import { loadManifest } from '../../src/engine/model/manifest-io.js';
import { inFlightAt, metric, serve } from '../deploy/helper.js';
import { until } from '../support/until.js';

const modelDir = process.env.SORTIE_TEST_MODEL ?? join(packageRoot, 'models', 'smollm2-135m-sorted');
const manifest = loadManifest(modelDir);
export const modelName = manifest.name;
const exits = manifest.exits.map(({ layer }) => layer);
export const shallowest = exits[0] ?? 0;
export const deepest = exits.at(-1) ?? 0;

/** The key that the server requires. */
export const apiKey = 'sesame';

/** A length that no client reads to the end: an aborted answer has to stop by itself. */
export const ENDLESS = 1500;

export interface RealServer {
  readonly baseURL: string;
  /** Waits until nothing runs. @returns the tokens generated since the server started */
  idle(): Promise<number>;
}

let connected: Promise<RealServer> | null = null;

/** The server of this process: files that run together share it. */
export function connect(t: Test): Promise<RealServer> {
  return (connected ??= startServer(t));
}

async function startServer(t: Test): Promise<RealServer> {
  const { url } = await serve(t, modelDir, ['--api-key', apiKey]);
  return {
    baseURL: `${url}/v1`,
    idle: async () => {
      await until('idle', async () => (await inFlightAt(url)) === 0);
      return metric(url, 'generation_tokens_total');
    },
  };
}

/** The error that a call of a client rejects with. */
export const thrown = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

/** Endless answers of a client: one whole, and one as a stream. */
interface Endless<Event> {
  readonly whole: (signal: AbortSignal) => Promise<unknown>;
  readonly stream: () => Promise<AsyncIterable<Event>>;
  /** Whether the event holds text. */
  readonly isText: (event: Event) => boolean;
}

/**
 * Aborts the whole answer after half a second, and leaves the stream at its first text. Checks that the server cancels
 * both sequences.
 * @returns the error of the aborted call
 */
export async function aborted<Event>(t: Test, server: RealServer, endless: Endless<Event>): Promise<unknown> {
  const before = await server.idle();
  const abort = new AbortController();
  setTimeout(() => {
    abort.abort();
  }, 500);
  const error = await thrown(endless.whole(abort.signal));
  for await (const event of await endless.stream()) if (endless.isText(event)) break;
  t.ok((await server.idle()) - before < ENDLESS, 'both sequences were cancelled');
  return error;
}
