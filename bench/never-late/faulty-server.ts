/**
 * A server with faults in front of a server with the API of OpenAI, as a process of its own:
 * `node faulty-server.js PORT TARGET MIX SEED`. Chats meet the faults, and other requests pass. The field `fault` of a
 * chat names its fault in place of the mix.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { seeded } from '../loadgen/random.js';
import { type Fault, faultOf, FAULTS, isMix, type Mix } from './faults.js';

/** Events in front of a stall. */
const STALL_EVENTS = 6;
const STALL_MS = 30_000;
const LATE_MS = 5000;
const CRAWL_MS = 1000;

function mixOf(name: string): Mix {
  if (isMix(name)) return name;
  throw new Error(`the mix must be one that faults.ts has, got "${name}"`);
}

const [port = '', target = '', mixName = 'mixed', seed = '1'] = process.argv.slice(2);
const mix = mixOf(mixName);
const random = seeded(Number(seed));

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Waits between the events of a stream, as the fault says. @param events so far */
async function pace(fault: Fault | null, events: number, signal: AbortSignal): Promise<void> {
  const ms = fault === 'crawl' ? CRAWL_MS : fault === 'stall' && events === STALL_EVENTS ? STALL_MS : 0;
  if (ms > 0) await delay(ms, undefined, { signal });
}

interface Asked {
  readonly body: Buffer | string;
  /** The fault that the request asks for; null for none. */
  readonly fault: Fault | null;
}

/** The target gets the body without the field. */
function askedOf(body: Buffer): Asked {
  if (!body.includes('"fault"')) return { body, fault: null };
  const { fault: name, ...others } = JSON.parse(body.toString()) as { readonly fault?: unknown };
  return { body: JSON.stringify(others), fault: FAULTS.find((each) => each === name) ?? null };
}

async function serve(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const drawn = request.method === 'POST' ? faultOf(mix, random()) : null;
  const { body, fault: asked } = askedOf(await bodyOf(request));
  const fault = asked ?? drawn;
  if (fault === 'down') request.socket.destroy();
  else if (fault === 'refuse') {
    response.writeHead(503, { 'content-type': 'application/json' }).end('{"error":{"message":"no capacity"}}');
  } else if (fault !== 'hang') await pass(request, response, { body, fault }, signal);
}

async function pass(
  { method = 'GET', url = '/' }: IncomingMessage,
  response: ServerResponse,
  { body, fault }: Asked,
  signal: AbortSignal,
): Promise<void> {
  if (fault === 'late') await delay(LATE_MS, undefined, { signal });
  const answer = await fetch(target + url, {
    method,
    signal,
    ...(method === 'POST' && { headers: { 'content-type': 'application/json' }, body }),
  });
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'application/json' });
  response.flushHeaders();
  const decoder = new TextDecoder();
  let rest = '';
  let events = 0;
  for await (const bytes of (answer.body ?? []) as AsyncIterable<Uint8Array>) {
    const blocks = (rest + decoder.decode(bytes, { stream: true })).split(/(?<=\n\n)/);
    rest = blocks.pop() ?? '';
    for (const block of blocks) {
      await pace(fault, events++, signal);
      response.write(block);
    }
  }
  response.end(rest);
}

createServer((request, response) => {
  const gone = new AbortController();
  response.on('close', () => {
    gone.abort();
  });
  serve(request, response, gone.signal).catch(() => response.destroy());
}).listen(Number(port), '127.0.0.1');
