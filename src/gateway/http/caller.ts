/**
 * The client of a request: its API key, compared in constant time, and the limits of the key on generation.
 *
 * Must not know: the content of prompts and answers.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Caller, openPolicy } from '../api/context.js';
import { ApiError } from '../api/errors.js';
import { rateLimitHeaders, type Limited } from '../api/schemas/headers.js';
import type { Series } from '../telemetry/series.js';
import { monotonicMs } from '../../util/clock.js';
import { networkOf } from './forwarded.js';
import { keyDigest, type ApiKey } from './keys.js';
import type { GatewayContext, KeyUse, Peers, Step } from './context.js';

const MINUTE_MS = 60_000;

/**
 * A minute's worth of units, which refill continuously. Common rate limiters count one per request in fixed windows.
 * Here a request takes as many tokens as it may use, and returns the unused ones.
 */
export class TokenBucket {
  #level: number;
  #at: number;

  /** @param perMinute units per minute; at least 1 @param now of a clock, ms */
  constructor(
    readonly perMinute: number,
    now: number,
  ) {
    this.#level = perMinute;
    this.#at = now;
  }

  level(now: number): number {
    const gained = (Math.max(0, now - this.#at) * this.perMinute) / MINUTE_MS;
    this.#level = Math.min(this.perMinute, this.#level + gained);
    this.#at = Math.max(this.#at, now);
    return this.#level;
  }

  /** Milliseconds until the bucket holds that many units. 0 if it does; Infinity for more than a minute's worth. */
  waitMs(units: number, now: number): number {
    if (units > this.perMinute) return Infinity;
    return (Math.max(0, units - this.level(now)) * MINUTE_MS) / this.perMinute;
  }

  /** Takes units, or returns them if negative. A level below 0 is a debt that refills first. */
  take(units: number, now: number): void {
    this.#level = this.level(now) - units;
  }
}

/** 64 bits: two keys of a server have the same name with a probability of 1e-13 for 1000 keys. */
const TENANT_DIGITS = 16;

const unlimited = (): void => undefined;

/** A client without a key, on a server that requires none. */
function anonymous(address: string): Caller {
  return { keyId: null, tenant: networkOf(address), policy: openPolicy, reserve: () => unlimited };
}

/** A name that tells keys apart in the engine and in the cache folder. The key can't be checked against it. */
function tenantOf({ digest }: ApiKey): string {
  return createHash('sha256').update('tenant').update(digest).digest('hex').slice(0, TENANT_DIGITS);
}

/** A duration in OpenAI's form: 20ms, 1.5s, 6m0s. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  const seconds = Math.ceil(ms / 10) / 100;
  const whole = Math.ceil(seconds);
  return seconds < 60 ? `${seconds}s` : `${Math.floor(whole / 60)}m${whole % 60}s`;
}

function tell(reply: FastifyReply, what: Limited, bucket: TokenBucket): void {
  const now = monotonicMs();
  void reply.headers(
    rateLimitHeaders(what, {
      limit: String(bucket.perMinute),
      remaining: String(Math.max(0, Math.floor(bucket.level(now)))),
      reset: duration(bucket.waitMs(bucket.perMinute, now)),
    }),
  );
}

/** A bucket of another size from which the same units are taken; null without a limit. */
function followed(before: TokenBucket | null, perMinute: number | null): TokenBucket | null {
  if (before?.perMinute === perMinute) return before;
  if (perMinute === null) return null;
  const now = monotonicMs();
  const bucket = new TokenBucket(perMinute, now);
  if (before !== null) bucket.take(before.perMinute - before.level(now), now);
  return bucket;
}

/** The use of one key. */
class Meter {
  readonly tenant: string;
  #requests: TokenBucket | null = null;
  #tokens: TokenBucket | null = null;
  #inFlight = 0;

  constructor(
    private key: ApiKey,
    private readonly limited: Series['limited'],
    private readonly peers: Peers | undefined,
  ) {
    this.tenant = tenantOf(key);
    this.follow(key);
  }

  /** Goes on counting under the limits of the key as it was read again. */
  follow(key: ApiKey): void {
    this.#requests = followed(this.#requests, key.limits.requestsPerMinute);
    this.#tokens = followed(this.#tokens, key.limits.tokensPerMinute);
    this.key = key;
  }

  /** Counts a use, here or in another process. */
  add({ requests, tokens, inFlight }: Omit<KeyUse, 'keyId'>): void {
    const now = monotonicMs();
    this.#requests?.take(requests, now);
    this.#tokens?.take(tokens, now);
    this.#inFlight += inFlight;
  }

  /** Counts a use in all processes. */
  #use(part: Partial<KeyUse>): void {
    const use = { keyId: this.key.digest.toString('hex'), requests: 0, tokens: 0, inFlight: 0, ...part };
    this.add(use);
    if (Object.values(this.key.limits).some((limit) => limit !== null)) this.peers?.tell(use);
  }

  /**
   * Counts each answer of a request as a request.
   * @param counted of these answers: 0 at the arrival of the request, 1 once its answers are known
   */
  count(reply: FastifyReply, answers: number, counted: 0 | 1): void {
    const { requestsInFlight, requestsPerMinute } = this.key.limits;
    const most = requestsInFlight ?? Infinity;
    const fits = Math.min(most, requestsPerMinute ?? Infinity);
    const each = 'each answer (prompts times n) counts as one';
    if (answers > fits) {
      const message = `This API key may have ${fits} requests at a time or a minute, and ${each}; got ${answers}.`;
      throw new ApiError('invalid_value', message, 'n');
    }
    const more = answers - counted;
    const waitMs = this.#requests?.waitMs(more, monotonicMs()) ?? 0;
    const isFull = this.#inFlight + more > most;
    const isRejected = isFull || waitMs > 0;
    // A request that is rejected costs nothing, so that a retry succeeds in time.
    this.#use(isRejected ? { requests: -counted } : { requests: more, inFlight: more });
    if (this.#requests !== null) tell(reply, 'requests', this.#requests);
    const rule = counted === 0 ? '' : `, and ${each}`;
    if (isFull) throw this.#exceeded('in_flight', `This API key may have ${most} requests in flight${rule}.`, 1000);
    if (isRejected) {
      const message = `This API key may send ${requestsPerMinute} requests per minute${rule}.`;
      throw this.#exceeded('requests', message, waitMs);
    }
    reply.request.response.onClosed(() => {
      this.#use({ inFlight: -more });
    });
  }

  /**
   * @param param the client's name of the parameter that bounds an answer
   * @returns gives the unused ones back
   */
  reserve(reply: FastifyReply, tokens: number, param: string): (used: number) => void {
    const bucket = this.#tokens;
    if (bucket === null) return unlimited;
    const waitMs = bucket.waitMs(tokens, monotonicMs());
    const rule = `This API key may use ${bucket.perMinute} tokens per minute, prompt and answer together`;
    if (waitMs === Infinity)
      throw new ApiError('invalid_value', `${rule}; this request asks for up to ${tokens}.`, param);
    if (waitMs === 0) this.#use({ tokens });
    tell(reply, 'tokens', bucket);
    if (waitMs > 0) throw this.#exceeded('tokens', `${rule}.`, waitMs);
    return (used) => {
      this.#use({ tokens: used - tokens });
    };
  }

  #exceeded(limit: Limited | 'in_flight', message: string, waitMs: number): ApiError {
    this.limited.inc({ limit });
    return new ApiError('rate_limit_exceeded', message, null, {}, waitMs);
  }
}

/** The key of a request. SDKs always send a Bearer token, often a made-up one beside the client's X-Api-Key. */
function keyOf({ headers }: FastifyRequest, keys: readonly ApiKey[]): ApiKey {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  const presented = [bearer, headers['x-api-key']].filter((text) => typeof text === 'string').map(keyDigest);
  if (presented.length === 0) {
    const how = 'Authorization: Bearer KEY or X-Api-Key: KEY';
    throw new ApiError('invalid_api_key', `This server requires an API key (${how}).`);
  }
  // Every key is compared, so the time taken tells nothing about a near match.
  const [key] = presented.flatMap((each) => keys.filter(({ digest }) => timingSafeEqual(digest, each)));
  if (key === undefined) throw new ApiError('invalid_api_key', 'The API key is wrong.');
  return key;
}

/** Finds the client of each request. Without keys in the context, every request passes. */
export function identified(context: GatewayContext): Step {
  const { series, peers } = context;
  /** By the digest of the key: a reload may change its name or limits, and its use stays. */
  const meters = new Map<string, Meter>();
  const meterOf = (key: ApiKey, keyId: string): Meter => {
    const meter = meters.get(keyId) ?? new Meter(key, series.limited, peers);
    meters.set(keyId, meter);
    meter.follow(key);
    return meter;
  };
  peers?.onUse((use) => {
    const key = context.apiKeys.find(({ digest }) => digest.toString('hex') === use.keyId);
    if (key !== undefined) meterOf(key, use.keyId).add(use);
  });
  return (request, reply) => {
    const { endpoint } = request.routeOptions.config;
    request.caller = anonymous(request.forwarded.client);
    if (endpoint === undefined || context.apiKeys.length === 0) return;
    const key = keyOf(request, context.apiKeys);
    const keyId = key.digest.toString('hex');
    const meter = meterOf(key, keyId);
    request.caller = {
      keyId,
      tenant: meter.tenant,
      policy: key.policy,
      reserve: ({ tokens, maxTokensParam, answers }) => {
        if (answers > 1) meter.count(reply, answers, 1);
        return meter.reserve(reply, tokens, maxTokensParam);
      },
    };
    if (key.name !== null) request.logFields.key = key.name;
    if ('operation' in endpoint || endpoint.isShared === true) meter.count(reply, 1, 0);
  };
}
