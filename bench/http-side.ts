/** Our server over HTTP, streaming, as a side of the bench. Knows: the public API. Must not know: the engine. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { RateMeter } from './rate-meter.js';
import { promptOf, type Rate, type Scenario } from './scenario.js';

export interface Server {
  readonly url: string;
  readonly child: ChildProcess;
  stop(): Promise<void>;
}

/** Starts `sortie serve` on a port and waits until it is ready. */
export async function startServer(modelDir: string, threads: number, port: number): Promise<Server> {
  const main = fileURLToPath(new URL('../src/main.js', import.meta.url));
  const args = ['serve', '--model', modelDir, '--threads', String(threads), '--port', String(port)];
  const child = spawn(process.execPath, [main, ...args, '--log-level', 'error'], {
    stdio: 'inherit',
  });
  const url = `http://127.0.0.1:${port}`;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`the server ended with code ${child.exitCode}`);
    const ok = await fetch(`${url}/health/ready`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (ok) break;
    await delay(100);
  }
  return {
    url,
    child,
    stop: async () => {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
    },
  };
}

/** @param model name with exit, as in /v1/models */
export async function httpRate(server: Server, model: string, scenario: Scenario, salt: number): Promise<Rate> {
  const { parallel, promptTokens, answerTokens } = scenario;
  const meter = new RateMeter(scenario);
  await Promise.all(
    Array.from({ length: parallel }, async (_, index) => {
      const response = await fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model,
          prompt: promptOf(promptTokens, salt + index),
          max_tokens: answerTokens,
          temperature: 0,
          ignore_eos: true,
          stream: true,
        }),
      });
      if (!response.ok || !response.body) throw new Error(`${response.status}: ${await response.text()}`);
      let seen = 0;
      let rest = '';
      const decoder = new TextDecoder();
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (!line.startsWith('data: {') || !line.includes('"finish_reason":null')) continue;
          meter.token(seen++ === 0);
        }
      }
      meter.ended();
    }),
  );
  return meter.rate();
}

/** p99 of the gateway's event-loop lag in ms, as its own metrics say. */
export async function eventLoopLagP99(server: Server): Promise<number> {
  const text = await (await fetch(`${server.url}/metrics`)).text();
  const line = text.split('\n').find((each) => /^\w*nodejs_eventloop_lag_p99_seconds[ {]/.test(each));
  return 1000 * Number(line?.split(' ').at(-1) ?? NaN);
}
