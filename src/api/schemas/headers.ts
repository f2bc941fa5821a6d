/**
 * Headers of answers: name, type, unit. One source for openapi.json, for what browsers may read, and for the code that
 * sends them, which the compiler holds to these names (HeadersOf).
 *
 * Must not know: when which is sent.
 */
import Type, { type TSchema } from 'typebox';

/** What sends such headers: every one of them, and no other. */
export type HeadersOf<Declared> = Readonly<Record<keyof Declared, string>>;

export const requestIdHeader = {
  'x-request-id': Type.String({
    description: "The request's own where that is one printable word, else a new one; the log has it.",
  }),
};

/** What was planned at admission. */
export const planHeaders = {
  'x-exit-layer': Type.Integer({
    minimum: 1,
    description: 'Planned depth, a layer; of the first choice where there are several. Absent: there was no plan yet.',
  }),
  'x-predicted-ttft-ms': Type.Number({
    minimum: 0,
    description: "The plan's time from the arrival of the request to the first token, ms.",
  }),
  'x-predicted-tpot-ms': Type.Number({ minimum: 0, description: "The plan's mean time per later token, ms." }),
};

/** Where waiting helps. */
export const retryHeaders = {
  'retry-after': Type.Integer({ minimum: 1, description: 'Least wait before the same request makes sense, s.' }),
  'retry-after-ms': Type.Integer({ minimum: 1, description: "The same in ms, which OpenAI's SDKs prefer." }),
};

export const challengeHeader = {
  'www-authenticate': Type.Literal('Bearer', { description: 'How a key is given: Authorization: Bearer KEY.' }),
};

export const allowHeader = { allow: Type.String({ description: 'Methods of this path, separated by commas.' }) };

/** What a key may use in a minute. */
export type Limited = 'requests' | 'tokens';

/** @returns what is told of such a limit, under OpenAI's names */
export function rateLimitHeaders<T>(
  what: Limited,
  { limit, remaining, reset }: Readonly<Record<'limit' | 'remaining' | 'reset', T>>,
): Record<string, T> {
  return {
    [`x-ratelimit-limit-${what}`]: limit,
    [`x-ratelimit-remaining-${what}`]: remaining,
    [`x-ratelimit-reset-${what}`]: reset,
  };
}

const limitHeaders = (what: Limited, meaning: string) =>
  rateLimitHeaders<TSchema>(what, {
    limit: Type.Integer({ minimum: 1, description: `${meaning} that the API key may use a minute. Absent: no limit.` }),
    remaining: Type.Integer({ minimum: 0, description: `${meaning} that are left at this moment.` }),
    reset: Type.String({
      description: 'Until all of them are back, with the unit: 20ms, 1.5s, 6m0s.',
      examples: ['1.5s'],
    }),
  });

export const requestLimitHeaders = limitHeaders('requests', 'Requests');
export const tokenLimitHeaders = limitHeaders('tokens', 'Tokens of prompt and answer');
