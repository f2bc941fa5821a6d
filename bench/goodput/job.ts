/** The jobs of bench:goodput, and their sending to a side's server. */
import { ask } from '../../src/load/ask.js';
import type { Send } from '../../src/load/run.js';
import { serverAt } from '../../src/remote/server.js';
import type { Asked } from '../../src/remote/stream.js';

/** One request of the bench, the same for every side. */
export interface Job {
  readonly id: string;
  readonly budgetClass: string;
  readonly budgetMs: number;
  /** Tokens of the answer at full depth. */
  readonly tokens: number;
  /** Whether the request demands exactly `tokens`; otherwise an answer is complete if the model ends it. */
  readonly isExact: boolean;
  readonly asked: Asked;
}

/** Sends jobs to a server. @param headers of a request with a budget in ms */
export function sender(url: string, model: string, headers: (budgetMs: number) => Record<string, string>): Send<Job> {
  const server = serverAt(url, null);
  return (job, scheduledAt) => ask(server, model, job.asked, { headers: headers(job.budgetMs), scheduledAt });
}
