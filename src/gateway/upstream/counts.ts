/** Counts of tokens, as an API of OpenAI has them. */
export interface Counts {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** @param prompt tokens of the prompt @param completion tokens of the answer */
export const countsOf = (prompt: number, completion: number): Counts => ({
  prompt_tokens: prompt,
  completion_tokens: completion,
  total_tokens: prompt + completion,
});

/** The counts of two models together. */
export const summed = ({ prompt_tokens = 0, completion_tokens = 0 }: Partial<Counts>, more: Counts): Counts =>
  countsOf(prompt_tokens + more.prompt_tokens, completion_tokens + more.completion_tokens);
