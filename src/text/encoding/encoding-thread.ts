/**
 * Encodes texts beside the event loop, in a thread that is started with the first one and ended when it has been idle.
 *
 * Knows: the thread, and who waits for it. Must not know: which texts are worth it, requests.
 *
 * Not a pool from npm: piscina 5.3, the best kept, leaves tasks that wait unanswered when its only thread is ended by an
 * abort or can't start, and does not count those with a signal towards its bound.
 */
import { Worker } from 'node:worker_threads';

/** Texts at once, one of them in the thread. Each is held whole: up to 1.3 MB at the embedded model's context. */
const MAX_JOBS = 8;
/** To start it takes some 0.2 s, to keep it 50 MB: a caller's next text should find it, the next hour should not, ms. */
const IDLE_MS = 30_000;

export interface EncodingThreadData {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
}

/** The thread answers each with a Uint32Array, in order. */
export interface EncodeMessage {
  readonly text: string;
  readonly addSpecial: boolean;
}

/** A text is not encoded: too many wait (`full`), or the server ends (`closed`). */
export class EncodingRefused extends Error {
  override readonly name = 'EncodingRefused';

  constructor(readonly reason: 'full' | 'closed') {
    super(`the thread that encodes is ${reason}`);
  }
}

/** The thread was lost over a text. The message may tell of this machine: it is for the log. */
export class EncodingLost extends Error {
  override readonly name = 'EncodingLost';
}

interface Job extends EncodeMessage {
  resolve(ids: Uint32Array): void;
  reject(error: unknown): void;
}

export class EncodingThread {
  #thread: Worker | null = null;
  /** The first is in the thread. */
  readonly #jobs: Job[] = [];
  #idle: NodeJS.Timeout | null = null;
  #isClosed = false;

  /**
   * @param tokenizer path of the model's tokenizer.json; it is read when the thread starts
   * @param idleMs how long the thread is kept without a text
   */
  constructor(
    private readonly tokenizer: string,
    private readonly idleMs = IDLE_MS,
  ) {}

  /**
   * @param signal ends the wait with its reason, and the work with it
   * @throws EncodingRefused, or EncodingLost where the thread was lost over this text
   */
  async encode(text: string, addSpecial: boolean, signal?: AbortSignal): Promise<Uint32Array> {
    signal?.throwIfAborted();
    if (this.#isClosed) throw new EncodingRefused('closed');
    if (this.#jobs.length >= MAX_JOBS) throw new EncodingRefused('full');
    let abandon: () => void = () => undefined;
    try {
      return await new Promise<Uint32Array>((resolve, reject) => {
        const job = { text, addSpecial, resolve, reject };
        abandon = () => {
          this.#drop(job, signal?.reason);
        };
        signal?.addEventListener('abort', abandon);
        this.#jobs.push(job);
        if (this.#jobs.length === 1) this.#begin();
      });
    } finally {
      signal?.removeEventListener('abort', abandon);
    }
  }

  /** Ends the thread for good; whoever waits is refused, and whoever comes. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const job of this.#jobs.splice(0)) job.reject(new EncodingRefused('closed'));
    await this.#end();
  }

  /** Hands the first text to the thread, or waits for the next one. */
  #begin(): void {
    this.#keep();
    const [job] = this.#jobs;
    if (job !== undefined) {
      try {
        this.#thread ??= this.#start();
      } catch (error) {
        // The system has no room for one more.
        this.#fail(error instanceof Error ? error.message : String(error));
        return;
      }
      this.#thread.postMessage({ text: job.text, addSpecial: job.addSpecial } satisfies EncodeMessage);
    } else if (this.#thread !== null) {
      this.#idle = setTimeout(() => void this.#end(), this.idleMs);
      this.#idle.unref();
    }
  }

  #start(): Worker {
    const workerData: EncodingThreadData = { tokenizer: this.tokenizer };
    const thread = new Worker(new URL('./thread.js', import.meta.url), { workerData });
    thread.on('message', (ids: Uint32Array) => {
      // What an ended one had still to say is for nobody.
      if (this.#thread !== thread) return;
      this.#jobs.shift()?.resolve(ids);
      this.#begin();
    });
    thread.on('error', (error) => {
      this.#lose(thread, error.message);
    });
    thread.on('exit', (code) => {
      this.#lose(thread, `it ended with code ${code}`);
    });
    return thread;
  }

  #lose(thread: Worker, why: string): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    this.#fail(why);
  }

  /** Others wait for another thread. */
  #fail(why: string): void {
    this.#jobs.shift()?.reject(new EncodingLost(`the thread that encodes was lost: ${why}`));
    this.#begin();
  }

  #drop(job: Job, reason: unknown): void {
    const place = this.#jobs.indexOf(job);
    if (place < 0) return;
    this.#jobs.splice(place, 1);
    job.reject(reason);
    if (place > 0) return;
    // Nothing else stops it in the middle of a text.
    void this.#end();
    this.#begin();
  }

  #keep(): void {
    if (this.#idle !== null) clearTimeout(this.#idle);
    this.#idle = null;
  }

  async #end(): Promise<void> {
    this.#keep();
    const thread = this.#thread;
    this.#thread = null;
    await thread?.terminate();
  }
}
