/**
 * Headers: name, type, unit, and the reading of those of requests. They are the one source for openapi.json and for the
 * code that reads or sends them. For responses, also for the headers that browsers may read; the compiler holds the
 * code to these names (HeadersOf).
 */
import { quoted } from '../../../util/quoted.js';
import { type TSchema, Type } from '../../../util/schema.js';
import { invalid } from '../errors.js';

/** Names of the request headers of budget and depth, as errors and documents write them. */
export const ASKED = {
  budget: 'X-Latency-Budget-Ms',
  ttft: 'X-SLO-TTFT-Ms',
  tpot: 'X-SLO-TPOT-Ms',
  sentence: 'X-First-Sentence-Budget-Ms',
  onMiss: 'X-Budget-On-Miss',
  exit: 'X-Exit-Layer',
  net: 'X-Net',
  envoy: 'x-envoy-expected-rq-timeout-ms',
} as const;

export type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * The values of a header, in order. Node.js joins repeated headers by commas, the separator of lists.
 * @param rule completes "NAME must be ..."
 * @param read returns undefined for a text that breaks the rule
 * @throws ApiError invalid_value that names the header and the value
 */
export function headerValues<T>(
  headers: Headers,
  name: string,
  rule: string,
  read: (text: string) => T | undefined,
): T[] {
  const lines = [headers[name.toLowerCase()] ?? []].flat();
  // `trim` would remove a no-break space as well, which is not white space in a header.
  const texts = lines.flatMap((line) => line.split(',')).map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ''));
  return texts.map((text, index) => {
    const value = read(text);
    if (value !== undefined) return value;
    const place = texts.length === 1 ? '' : ` as value ${index + 1} of ${texts.length}`;
    throw invalid(name, `must be ${rule}, got ${quoted(text)}${place}`);
  });
}

/** The one value of a header whose values have no order, and so must agree; null without the header. */
export function agreed<T extends string>(name: string, values: readonly T[]): T | null {
  const [first = null, ...others] = new Set(values);
  if (others.length === 0) return first;
  throw invalid(name, `must have one value, got different ones: ${[first, ...others].join(', ')}`);
}

/** The word of a header; null without the header. @throws ApiError invalid_value for another one, or for two */
export function headerWord<const T extends string>(headers: Headers, name: string, words: readonly T[]): T | null {
  const rule = `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
  return agreed(
    name,
    headerValues(headers, name, rule, (text) => words.find((word) => word === text)),
  );
}

/** The values of all declared headers and of no other. */
export type HeadersOf<Declared> = Readonly<Record<keyof Declared, string>>;

export const requestIdHeader = {
  'x-request-id': Type.String({
    description: 'The X-Request-Id of the request if it is one printable word, else a new id. The log has it.',
  }),
};

/** Beside X-Request-Id, in the form of Anthropic's clients. */
export const messageIdHeader = { 'request-id': Type.String({ description: 'The same id as X-Request-Id.' }) };

/** Headers of the plan at admission. */
export const planHeaders = {
  'x-exit-layer': Type.Integer({
    minimum: 1,
    description: 'Planned exit layer of the first choice. Absent before there is a plan.',
  }),
  'x-predicted-ttft-ms': Type.Number({
    minimum: 0,
    description: 'Predicted TTFT in ms, from the arrival of the request.',
  }),
  'x-predicted-tpot-ms': Type.Number({ minimum: 0, description: 'Predicted TPOT in ms.' }),
  'x-sortie-expected-tokens': Type.Integer({
    minimum: 0,
    description: 'Predicted median length of the answer, all choices together. A stream has it at its first token.',
  }),
};

/** Of errors: those for which a retry helps, and those that a retry with the same budget meets again. */
export const errorHeaders = {
  'retry-after': Type.Integer({ minimum: 1, description: 'Shortest useful wait before a retry, s.' }),
  'retry-after-ms': Type.Integer({ minimum: 1, description: "The same in ms. OpenAI's SDKs prefer it." }),
  'x-should-retry': Type.Literal('false', { description: 'SDKs of OpenAI and Anthropic do not repeat the request.' }),
  'www-authenticate': Type.Literal('Bearer', { description: 'The form of a key: Authorization: Bearer KEY.' }),
  allow: Type.String({ description: 'Of a 405: the methods of this path, separated by commas.' }),
};

/** The limited uses per minute of a key. */
export type Limited = 'requests' | 'tokens';

/** @returns the headers of such a limit, under OpenAI's names */
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
    limit: Type.Integer({
      minimum: 1,
      description: `${meaning} that the API key may use per minute. Absent: no limit.`,
    }),
    remaining: Type.Integer({ minimum: 0, description: `${meaning} left at this moment.` }),
    reset: Type.String({
      description: 'Time until the whole limit is available again, with its unit: 20ms, 1.5s, 6m0s.',
      examples: ['1.5s'],
    }),
  });

export const requestLimitHeaders = limitHeaders('requests', 'Requests');
export const tokenLimitHeaders = limitHeaders('tokens', 'Tokens of prompt and answer');

/** Of answers of an upstream model under a budget. */
export const netHeaders = {
  'x-sortie-net': Type.String({
    description: 'armed: the local model answers if the upstream does not. none: it does not.',
    examples: ['armed'],
  }),
  'x-sortie-net-reason': Type.String({ description: 'Why there is no net, in a word.', examples: ['capacity'] }),
};

/** Of whole answers, and of errors that end one: the facts that the report at the end of a stream has. */
export const answerHeaders = {
  'x-sortie-source': Type.String({
    description: 'As sortie.source. Absent where the status line comes first.',
    examples: ['local'],
  }),
  'x-sortie-outcome': Type.String({
    description: 'As sortie.outcome. Absent where the status line comes first.',
    examples: ['whole'],
  }),
};

/** Headers that scripts of other origins may read. */
export const browserHeaders = {
  ...requestIdHeader,
  ...planHeaders,
  ...answerHeaders,
  ...netHeaders,
  ...errorHeaders,
  ...requestLimitHeaders,
  ...tokenLimitHeaders,
};
