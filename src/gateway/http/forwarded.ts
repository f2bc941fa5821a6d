/**
 * The facts that a trusted proxy states about a request. The same headers of any other client are ignored, and a
 * malformed value counts as none: a proxy's mistake must not fail a request.
 */
import { isIP, isIPv6 } from 'node:net';
import proxyAddr from '@fastify/proxy-addr';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { monotonicMs, turnStartedAt } from '../../util/clock.js';

export interface Forwarded {
  /** Whether the connection comes from a trusted proxy. */
  readonly isTrusted: boolean;
  /** Address of the client, by X-Forwarded-For. */
  readonly client: string;
  /** Scheme of the client's request, by X-Forwarded-Proto. */
  readonly scheme: 'http' | 'https';
  /** Milliseconds that the request spent in proxies, by X-Request-Start. */
  readonly waitedMs: number;
  /** Arrival at the first proxy that states it, or here, on the monotonic clock. */
  readonly arrivedAt: number;
}

declare module 'fastify' {
  interface FastifyRequest {
    forwarded: Forwarded;
  }
}

/** A longer wait is a difference of clocks. No proxy of `deploy/` holds a request for so long. */
const MAX_WAIT_MS = 60_000;

/**
 * Envoy writes seconds; other proxies write milliseconds or microseconds. Their instants differ in size.
 */
const UNITS_MS = [
  { above: 1e14, ms: 1e-3 },
  { above: 1e11, ms: 1 },
  { above: 0, ms: 1000 },
] as const;

/**
 * @param header `t=` and an instant since 1970 in seconds, milliseconds or microseconds
 * @param now epoch milliseconds of the arrival here
 * @returns ms between the two; 0 for a malformed header, an instant to come, or one over a minute ago
 */
export function waitedMs(header: string | string[] | undefined, now: number): number {
  const [, digits] = /^\s*(?:t=)?(\d{1,17}(?:\.\d{1,9})?)\s*$/.exec(String(header)) ?? [];
  const instant = Number(digits);
  const unit = UNITS_MS.find(({ above }) => instant > above);
  if (unit === undefined) return 0;
  const waited = now - instant * unit.ms;
  return waited > 0 && waited <= MAX_WAIT_MS ? waited : 0;
}

/** Whether the address of a connection, or one in X-Forwarded-For, is a trusted proxy. */
export type TrustRule = (address: string, hop: number) => boolean;

/**
 * The rule of `--trusted-proxies`. Fastify's own option `trustProxy` would also believe X-Forwarded-Host, and does not
 * know requests with an unreadable path.
 */
export function trustRule(proxies: readonly string[]): TrustRule {
  return proxyAddr.compile([...proxies]);
}

export function forwardedOf({ raw, headers }: FastifyRequest, reply: FastifyReply, isTrusted: TrustRule): Forwarded {
  const peer = raw.socket.remoteAddress;
  const here = Math.min(turnStartedAt(), monotonicMs() - reply.elapsedTime);
  // A connection that is closed already has no address.
  if (peer === undefined || !isTrusted(peer, 0)) {
    return { isTrusted: false, client: peer ?? 'unknown', scheme: 'http', waitedMs: 0, arrivedAt: here };
  }
  const waited = waitedMs(headers['x-request-start'], Date.now() - reply.elapsedTime);
  const client = proxyAddr(raw, isTrusted);
  return {
    isTrusted: true,
    client: isIP(client) === 0 ? peer : client,
    // The last value is the one of the proxy in front of this server.
    scheme: /(?:^|,)\s*https\s*$/.test(String(headers['x-forwarded-proto'])) ? 'https' : 'http',
    waitedMs: waited,
    arrivedAt: here - waited,
  };
}

/** The trace id of a W3C traceparent, or null. */
export function traceIdOf(header: string | string[] | undefined): string | null {
  const match = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:-|$)/.exec(String(header));
  return match?.[1] ?? null;
}

/** Groups of an IPv6 address that name a network: a client has all addresses of its /64. */
const GROUPS = 4;

/**
 * The network of a client without a key, by which such clients are told apart.
 * @returns an IPv4 address as it is, and an IPv6 address without its last 64 bits
 */
export function networkOf(address: string): string {
  const [bare = ''] = address.split('%');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1];
  if (mapped !== undefined || !isIPv6(bare)) return mapped ?? address;
  const [before = [], after] = bare.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : 8 - before.length - after.length;
  const groups = [...before, ...Array<string>(zeros).fill('0'), ...(after ?? [])].slice(0, GROUPS);
  return groups.map((group) => parseInt(group, 16).toString(16)).join(':');
}
