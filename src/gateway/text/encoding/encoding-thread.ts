/**
 * Encodes texts in a thread beside the event loop. The thread starts with the first text and ends after an idle time.
 *
 * The pool piscina 5.3 does not fit. If its only thread is aborted or can't start, it leaves waiting tasks unanswered,
 * and it does not count tasks with a signal towards its bound.
 *
 * Must not know: which texts need the thread, requests.
 */
import { Worker } from 'node:worker_threads';

/** Most texts at a time, one of them in the thread. Each is in memory: up to 1.3 MB at the embedded model's context. */
const MAX_JOBS = 8;
/** Idle time in ms. A start takes about 0.2 s and a thread holds 50 MB, so it waits for a client's next text only. */
const IDLE_MS = 30_000;

export interface EncodingThreadData {
  /** Path of the model's tokenizer.json. */
  readonly tokenizer: string;
}

/** A text for the thread, which answers each with a Uint32Array, in order. */
export interface EncodeMessage {
  readonly text: string;
  readonly addSpecial: boolean;
}

/** The thread rejects a text: too many wait (`full`), or the server shuts down (`closed`). */
export class EncodingRejected extends Error {
  override readonly name = 'EncodingRejected';

  constructor(readonly reason: 'full' | 'closed') {
    super(`the encoding thread is ${reason}`);
  }
}

/** The thread died over a text. The message may describe the machine, so it is for the log only. */
export class EncodingLost extends Error {
  override readonly name = 'EncodingLost';
}

interface Job extends EncodeMessage {
  resolve(ids: Uint32Array): void;
  reject(error: unknown): void;
}

export class EncodingThread {
  #thread: Worker | null = null;
  /** The first job is in the thread. */
  readonly #jobs: Job[] = [];
  #idle: NodeJS.Timeout | null = null;
  #isClosed = false;

  /**
   * @param tokenizer path of the model's tokenizer.json; the thread reads it when it starts
   * @param idleMs time after which an idle thread ends
   */
  constructor(
    private readonly tokenizer: string,
    private readonly idleMs = IDLE_MS,
  ) {}

  /**
   * @param signal cancels the work; the promise rejects with its reason
   * @throws EncodingRejected, or EncodingLost if the thread died over this text
   */
  async encode(text: string, addSpecial: boolean, signal?: AbortSignal): Promise<Uint32Array> {
    signal?.throwIfAborted();
    if (this.#isClosed) throw new EncodingRejected('closed');
    if (this.#jobs.length >= MAX_JOBS) throw new EncodingRejected('full');
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

  /** Ends the thread for good; waiting and later texts are rejected. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const job of this.#jobs.splice(0)) job.reject(new EncodingRejected('closed'));
    await this.#end();
  }

  /** Gives the first text to the thread, or starts the idle time. */
  #begin(): void {
    this.#keep();
    const [job] = this.#jobs;
    if (job !== undefined) {
      try {
        this.#thread ??= this.#start();
      } catch (error) {
        // The system can't start another thread.
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
      // A late message of an ended thread is dropped.
      if (this.#thread !== thread) return;
      this.#jobs.shift()?.resolve(ids);
      this.#begin();
    });
    thread.on('error', (error) => {
      this.#lose(thread, error.message);
    });
    thread.on('exit', (code) => {
      this.#lose(thread, `it exited with code ${code}`);
    });
    return thread;
  }

  #lose(thread: Worker, why: string): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    this.#fail(why);
  }

  /** Rejects the first text; the other texts wait for another thread. */
  #fail(why: string): void {
    this.#jobs.shift()?.reject(new EncodingLost(`the encoding thread was lost: ${why}`));
    this.#begin();
  }

  #drop(job: Job, reason: unknown): void {
    const place = this.#jobs.indexOf(job);
    if (place < 0) return;
    this.#jobs.splice(place, 1);
    job.reject(reason);
    if (place > 0) return;
    // Only the end of the thread stops an encoding that runs.
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
