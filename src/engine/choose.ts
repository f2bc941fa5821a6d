/**
 * From a batch's logits to one token per row.
 *
 * Knows: the head lane and the sampler. Must not know: slots, scheduling.
 */
import type { HeadLane, SelectedRow } from '../model/head-lane.js';
import { applyMask } from './constraint.js';
import type { Sampling, TokenLogprobs } from './messages.js';
import { sampleFull, sampleTop } from './sampler.js';
import type { Sequence } from './sequence.js';

export interface Chosen {
  readonly token: number;
  readonly logprobs: TokenLogprobs | null;
}

/** Greedy without anything else: the argmax graph alone decides. Such rows must come first in the batch. */
export function isPlainGreedy(sequence: Sequence): boolean {
  return (
    sequence.request.sampling.temperature === 0 &&
    sequence.request.logprobs === null &&
    !sequence.wantsAllLogits &&
    !mustGoOn(sequence)
  );
}

/** @param sequences row i's sequence; the plain greedy ones first */
export function chooseTokens(head: HeadLane, sequences: readonly Sequence[]): Chosen[] {
  const greedy = sequences.findIndex((sequence) => !isPlainGreedy(sequence));
  const plain = greedy < 0 ? sequences.length : greedy;
  const others = sequences.length - plain;
  if (plain > 0) head.argmax(plain);
  if (others > 0) {
    sequences.slice(plain).forEach(({ request }, index) => {
      const { temperature } = request.sampling;
      head.inverseTemperatures[plain + index] = temperature > 0 ? 1 / temperature : 1;
      head.targets[plain + index] = 0n;
    });
    head.select(plain, others);
  }
  return sequences.map((sequence, row) =>
    row < plain ? { token: Number(head.argmaxIds[row]), logprobs: null } : choose(head, row, sequence),
  );
}

/** What a selected row says about one token. @param logit the token's logit */
export function describe(row: SelectedRow, logit: number, alternatives: number): TokenLogprobs {
  return {
    logprob: logit - row.lse,
    top: Array.from({ length: Math.min(alternatives, row.values.length) }, (_, i) => [
      Number(row.ids[i]),
      (row.values[i] ?? 0) - row.lse,
    ]),
  };
}

function choose(head: HeadLane, row: number, sequence: Sequence): Chosen {
  const { request } = sequence;
  const selected = head.selected(row);
  const sampling: Sampling = mustGoOn(sequence)
    ? { ...request.sampling, logitBias: [...request.sampling.logitBias, ...withoutEnd(request.stopTokens)] }
    : request.sampling;
  const u = sequence.draw();
  const direct = sequence.wantsAllLogits || sampling !== request.sampling ? null : sampleTop(selected, sampling, u);
  let token: number;
  let logit: number;
  if (direct !== null) {
    token = direct;
    logit = selected.values[selected.ids.indexOf(BigInt(token))] ?? NaN;
  } else {
    const logits = head.fullLogits(row);
    const own = logits.slice();
    if (sequence.constraint?.binds && sequence.constraint.mask) applyMask(own, sequence.constraint.mask);
    token = sampleFull(own, sampling, sequence.counts, u);
    logit = logits[token] ?? NaN;
  }
  return { token, logprobs: request.logprobs === null ? null : describe(selected, logit, request.logprobs) };
}

/** Whether an end token may not come yet (min_tokens). */
function mustGoOn({ request, generated }: Sequence): boolean {
  return generated < request.minTokens && request.stopTokens.length > 0;
}

function withoutEnd(stopTokens: readonly number[]): (readonly [number, number])[] {
  return stopTokens.map((id) => [id, -Infinity]);
}
