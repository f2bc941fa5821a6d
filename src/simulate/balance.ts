/**
 * Policies of balancers before several servers, as the proxies of deploy/ have them. Must not know: what a server does
 * with a request.
 */
import type { Load } from '../util/load-meter.js';
import type { SimulatedRequest } from './request.js';

/** A request of a client that may be in a conversation. */
export interface FleetRequest extends SimulatedRequest {
  /** The conversation; absent: none. */
  readonly session?: string;
  /** Positions of the prompt that a server with the conversation has in its KV cache. */
  readonly sharedPositions?: number;
}

/** A server as a balancer sees it. */
export interface Server {
  /** Requests that have not ended at this time. */
  connections(at: number): number;
  /** The load that its last answer reported, and when; null before the first. */
  readonly report: (Load & { readonly at: number }) | null;
}

/** @returns the index of the server for a request. Servers that are down are absent, so indices change with them. */
export type Balancer = (servers: readonly Server[], request: FleetRequest, at: number) => number;

export const BALANCES = ['least_request', 'orca'] as const;
export type Balance = (typeof BALANCES)[number];

/** @param random numbers in [0, 1) */
export function balancerOf(balance: Balance, random: () => number): Balancer {
  return balance === 'orca' ? weighted() : leastRequest(random);
}

/** Servers that Envoy looks at for a request. HAProxy and nginx look at all. */
const CHOICES = 32;

/**
 * The server with the fewest open requests. Of several, the one that was chosen the longest time ago. Among very many
 * servers a random part is compared.
 */
export function leastRequest(random: () => number): Balancer {
  const chosenAt = new WeakMap<Server, number>();
  let turn = 0;
  return (servers, _request, at) => {
    const few = servers.length <= CHOICES;
    const indices = Array.from({ length: Math.min(CHOICES, servers.length) }, (_, i) =>
      few ? i : Math.floor(random() * servers.length),
    );
    const [best] = indices
      .flatMap((index) => {
        const server = servers[index];
        return server === undefined ? [] : [{ index, server, open: server.connections(at) }];
      })
      .sort((a, b) => a.open - b.open || (chosenAt.get(a.server) ?? -1) - (chosenAt.get(b.server) ?? -1));
    if (best === undefined) throw new Error('there must be at least one server');
    chosenAt.set(best.server, turn++);
    return best.index;
  };
}

/** Milliseconds between two updates of weights, and those for which a report counts (deploy/envoy). */
const UPDATE_MS = 5000;
const EXPIRY_MS = 10_000;

/** The weight of a server: its tokens a second over its backlog in minutes, as Envoy computes it; null without load. */
export function weightOf({ tokensPerS, backlogS }: Load): number | null {
  if (tokensPerS <= 0 || backlogS <= 0) return null;
  return Math.max(1, Math.floor((tokensPerS * 60) / backlogS));
}

/** Round robin by the weights of load reports. A server without a report has the median weight. */
export function weighted(): Balancer {
  const weights = new WeakMap<Server, number>();
  /** When a server is due: each request adds the inverse of its weight. */
  const due = new WeakMap<Server, number>();
  let updatedAt = -Infinity;
  let clock = 0;
  return (servers, _request, at) => {
    if (at - updatedAt >= UPDATE_MS) {
      updatedAt = at;
      const known = servers.map(({ report }) =>
        report === null || at - report.at > EXPIRY_MS ? null : weightOf(report),
      );
      const sorted = known.filter((weight) => weight !== null).sort((a, b) => a - b);
      const median = sorted[sorted.length >> 1] ?? 1;
      for (const [i, server] of servers.entries()) {
        const weight = known[i] ?? median;
        weights.set(server, weight);
        due.set(server, Math.min(due.get(server) ?? clock, clock) + 1 / weight);
      }
    }
    let best = 0;
    const dueOf = (index: number): number => {
      const server = servers[index];
      return server === undefined ? Infinity : (due.get(server) ?? clock);
    };
    for (let i = 1; i < servers.length; i++) if (dueOf(i) < dueOf(best)) best = i;
    const server = servers[best];
    if (server === undefined) throw new Error('there must be at least one server');
    clock = Math.max(clock, dueOf(best));
    due.set(server, clock + 1 / (weights.get(server) ?? 1));
    return best;
  };
}

/** A conversation keeps its server: rendezvous hashing of its name. Other requests go by another policy. */
export function affine(other: Balancer): Balancer {
  const numbers = new WeakMap<Server, number>();
  let count = 0;
  const numberOf = (server: Server): number => {
    const number = numbers.get(server) ?? count++;
    numbers.set(server, number);
    return number;
  };
  return (servers, request, at) => {
    const { session } = request;
    if (session === undefined) return other(servers, request, at);
    let best = 0;
    let most = -1;
    for (const [i, server] of servers.entries()) {
      const score = hash(`${session} ${numberOf(server)}`);
      if (score > most) [best, most] = [i, score];
    }
    return best;
  };
}

/** FNV-1a, 32 bits, with a last mix: names that differ in one character are far apart. */
function hash(text: string): number {
  let h = 2166136261;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 16777619);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
}
