/** The measured lengths as a table and as a file. */
import type { Length, QuestionLengths } from './ask.js';
import { lengthsAt } from './prior.js';

/** Lines of a table: for each exit and temperature, median, 90% quantile and mean of the tokens, and the cut share. */
export function tableOf(exits: readonly number[], answers: readonly QuestionLengths[]): string[] {
  return [
    '| exit | answers | median | p90 | mean | cut at the cap |',
    '| --- | --- | --- | --- | --- | --- |',
    ...exits.flatMap((exit) => {
      const { greedy, sampled } = lengthsAt(exit, answers);
      return [rowOf(exit, 'greedy', greedy), rowOf(exit, 'sampled', sampled)];
    }),
  ];
}

function rowOf(exit: number, kind: string, lengths: readonly Length[]): string {
  const tokens = lengths.map((length) => length.tokens).sort((a, b) => a - b);
  const at = (share: number): number => tokens[Math.ceil(share * tokens.length) - 1] ?? NaN;
  const mean = tokens.reduce((sum, each) => sum + each, 0) / tokens.length;
  const cut = lengths.filter(({ isCut }) => isCut).length / lengths.length;
  return `| ${exit} | ${kind} | ${at(0.5)} | ${at(0.9)} | ${mean.toFixed(0)} | ${(100 * cut).toFixed(0)}% |`;
}

/** JSON with the answers to one question per line. @param cap most tokens of an answer */
export function fileOf(model: string, cap: number, answers: readonly QuestionLengths[]): string {
  const lines = answers.map((answer) => JSON.stringify(answer)).join(',\n');
  return `{"model":${JSON.stringify(model)},"cap":${cap},"answers":[\n${lines}\n]}\n`;
}
