/**
 * The memory that answers of upstreams take until they are sent: text that waits, an event without its end, a body.
 *
 * Must not know: what is held.
 */
import { getHeapStatistics } from 'node:v8';
import { ApiError } from '../api/errors.js';
import { MAX_NESTING } from '../api/params/value-limits.js';
import { FairQuota } from '../../util/fair-quota.js';
import { jsonSize } from '../../util/json-size.js';

/** Most of one answer, bytes: some 100,000 chunks of a word, or an event of 16 MiB. */
const MOST_ANSWER = 96 * 2 ** 20;
/** Of the heap, for the answers of a tenant alone. All tenants together have under twice as much. */
const TENANT_SHARE = 1 / 6;
/** Memory of a value beside its text. */
const VALUE_BYTES = 64;

/** All gateways of a process share its heap. */
const heap = new FairQuota(getHeapStatistics().heap_size_limit * TENANT_SHARE);

const tooLarge = (): ApiError =>
  new ApiError('upstream_failed', 'The answer of the upstream is larger than the gateway holds.');

/**
 * The memory that a JSON takes, text and values.
 * @throws ApiError upstream_failed for one that is nested too deep for JSON.stringify, or larger than an answer may be
 */
export function bytesOf(json: string): number {
  const { levels, containers, commas } = jsonSize(json);
  if (levels > MAX_NESTING) throw new ApiError('upstream_failed', 'The JSON of the upstream is nested too deep.');
  const bytes = json.length + VALUE_BYTES * (containers + commas);
  if (bytes > MOST_ANSWER) throw tooLarge();
  return bytes;
}

/** The memory of one answer. */
export class HeldBytes {
  #bytes = 0;
  #isClosed = false;

  constructor(private readonly tenant: string) {}

  /** @throws ApiError upstream_failed for an answer that is too large, overloaded beyond the share of its tenant */
  add(bytes: number): void {
    if (this.#isClosed) return;
    const { tenant } = this;
    const isFull = bytes > heap.available(tenant);
    const isMost = 2 * this.#bytes >= heap.held(tenant);
    if (this.#bytes + bytes > MOST_ANSWER || (isFull && isMost)) throw tooLarge();
    if (isFull) throw new ApiError('overloaded', 'Other answers of this client fill its memory; try again shortly.');
    heap.acquire(tenant, bytes);
    this.#bytes += bytes;
  }

  free(bytes: number): void {
    if (this.#isClosed) return;
    heap.release(this.tenant, bytes);
    this.#bytes -= bytes;
  }

  /** Frees all but these. */
  keep(bytes: number): void {
    this.free(Math.max(0, this.#bytes - bytes));
  }

  /** The answer is over. */
  close(): void {
    this.keep(0);
    this.#isClosed = true;
  }
}
