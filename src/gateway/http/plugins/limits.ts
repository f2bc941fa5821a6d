/**
 * Limits of API keys on generation: requests and tokens a minute, requests in flight.
 *
 * Must not know: the content of prompts and answers.
 */
import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { type Caller, openPolicy } from '../../api/context.js';
import { rateLimitHeaders, type Limited } from '../../api/schemas/headers.js';
import type { Series } from '../../telemetry/series.js';
import { monotonicMs } from '../../../util/clock.js';
import { ApiError } from '../../api/errors.js';
import type { ApiKey } from '../keys.js';
import type { KeyUse, Peers } from '../peers.js';
import { TokenBucket } from '../token-bucket.js';
import { networkOf } from '../forwarded.js';
import { onClosed } from '../response-lifecycle.js';
import type { GatewayContext } from '../context.js';

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
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
    onClosed(reply, () => {
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

export function registerLimits(app: FastifyInstance, context: GatewayContext): void {
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
  app.decorateRequest('caller');
  app.addHook('onRequest', (request, reply, done) => {
    const key = request.apiKey;
    request.caller = anonymous(request.forwarded.client);
    if (key !== null) {
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
      const { inference, isShared } = request.routeOptions.config;
      if (inference === true || isShared === true) meter.count(reply, 1, 0);
    }
    done();
  });
}
