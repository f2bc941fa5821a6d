/**
 * Debian's Chromium without a window, driven over the pipe of its DevTools protocol. The tests of a process share one
 * browser, in which each has a profile of its own.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Readable, Writable } from 'node:stream';
import t from 'tap';
import { until } from '../support/until.js';

interface Message {
  readonly id?: number;
  readonly sessionId?: string;
  readonly method?: string;
  readonly params?: Record<string, unknown>;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

interface Pending {
  readonly resolve: (result: Record<string, unknown>) => void;
  readonly reject: (error: Error) => void;
}

const FLAGS = [
  '--headless=new',
  '--remote-debugging-pipe',
  '--no-sandbox',
  '--no-first-run',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--hide-scrollbars',
];

/** The browser has this time to close itself. */
const CLOSE_MS = 10_000;

/** The process, and the pipe that all pages share. */
class Browser {
  readonly #child: ChildProcess;
  readonly #write: Writable;
  readonly #pending = new Map<number, Pending>();
  readonly #pages = new Map<string, Page>();
  #last = 0;

  constructor(child: ChildProcess) {
    this.#child = child;
    const [, , , write, read] = child.stdio;
    this.#write = write as Writable;
    let text = '';
    (read as Readable).setEncoding('utf8').on('data', (data: string) => {
      const messages = (text + data).split('\0');
      text = messages.pop() ?? '';
      for (const message of messages) this.#receive(JSON.parse(message) as Message);
    });
  }

  async send(method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> {
    const id = ++this.#last;
    this.#write.write(`${JSON.stringify({ id, method, params, ...(sessionId !== undefined && { sessionId }) })}\0`);
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  /** Opens a tab with a profile of its own. @param t removes the profile at its end */
  async open(t: { teardown(end: () => unknown): void }): Promise<Page> {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    t.teardown(() => this.send('Target.disposeBrowserContext', { browserContextId }));
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, String(sessionId));
    this.#pages.set(String(sessionId), page);
    for (const domain of ['Page', 'Runtime', 'Log']) await page.send(`${domain}.enable`);
    return page;
  }

  /** Ends all processes of the browser. */
  async close(): Promise<void> {
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#write.on('error', () => undefined);
    void this.send('Browser.close');
    if ((await Promise.race([exited, sleep(CLOSE_MS, 'late')])) === 'late' && this.#child.pid !== undefined) {
      process.kill(-this.#child.pid, 'SIGKILL');
      await exited;
    }
  }

  #receive({ id, sessionId, method, params = {}, result, error }: Message): void {
    if (id !== undefined) {
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) pending?.resolve(result ?? {});
      else pending?.reject(new Error(error.message));
    }
    const complaints = this.#pages.get(sessionId ?? '')?.complaints;
    if (method === 'Runtime.exceptionThrown') complaints?.push(JSON.stringify(params.exceptionDetails));
    if (method !== 'Log.entryAdded') return;
    const { level, text } = params.entry as { level: string; text: string };
    if (level === 'error' || level === 'warning') complaints?.push(text);
  }
}

export class Page {
  /** Errors and warnings of the console, violations of the page's policy included. */
  readonly complaints: string[] = [];
  readonly #browser: Browser;
  readonly #session: string;

  constructor(browser: Browser, session: string) {
    this.#browser = browser;
    this.#session = session;
  }

  async send(method: string, params: object = {}): Promise<Record<string, unknown>> {
    return this.#browser.send(method, params, this.#session);
  }

  /** @returns the value of an expression, which may be a promise */
  async evaluate<T>(expression: string): Promise<T> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', options);
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: T }).value;
  }

  /** Waits until an expression is true. */
  async until(expression: string): Promise<void> {
    await until(expression, () => this.evaluate<boolean>(`Boolean(${expression})`), 50);
  }

  async press(key: string, code: number, modifiers = 0): Promise<void> {
    const options = { key, windowsVirtualKeyCode: code, modifiers, ...(key === 'Enter' && { text: '\r' }) };
    await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...options });
    await this.send('Input.dispatchKeyEvent', { type: 'keyUp', key, windowsVirtualKeyCode: code, modifiers });
  }

  /** Sets the width of the page in CSS pixels and the colour scheme. */
  async show(width: number, scheme: 'light' | 'dark'): Promise<void> {
    const metrics = { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 };
    await this.send('Emulation.setDeviceMetricsOverride', metrics);
    await this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  }
}

let browser: Browser | null = null;

function startBrowser(): Browser {
  const profile = mkdtempSync(join(tmpdir(), 'sortie-chromium-'));
  const stdio = ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] as const;
  const child = spawn('chromium', [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], {
    stdio: [...stdio],
    detached: true,
  });
  const started = new Browser(child);
  t.teardown(async () => {
    await started.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  });
  return started;
}

/** Opens a page, and the browser of the process with the first one. @param t gets the teardown of the page */
export function openBrowser(t: { teardown(end: () => unknown): void }): Promise<Page> {
  browser ??= startBrowser();
  return browser.open(t);
}
