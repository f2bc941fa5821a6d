/** Log-probabilities in OpenAI's two forms: their schemas, and their values. */
import { isUtf8 } from 'node:buffer';
import type { TokenLogprobs } from '../../../protocol/index.js';
import type { TextTokenizer } from '../../text/tokenizer.js';
import { codePointLength } from '../../text/code-points.js';
import type { ChoiceToken } from './choice.js';
import { LazyList } from './json-pieces.js';
import { nullable, type Static, Type } from '../../../util/schema.js';
import type { Prompt } from './prompt.js';
import { NullableNumber } from '../schemas/shared.js';

const TopLogprob = Type.Object({ token: Type.String(), logprob: Type.Number(), bytes: Type.Array(Type.Integer()) });
export const ChatLogprob = Type.Object({ ...TopLogprob.properties, top_logprobs: Type.Array(TopLogprob) });
export type ChatLogprob = Static<typeof ChatLogprob>;

export const CompletionLogprobs = Type.Object({
  tokens: Type.Array(
    Type.String({
      description: 'The text of the token. A part of a character is written as bytes: bytes:\\xf0\\x9f.',
    }),
  ),
  token_logprobs: Type.Array(NullableNumber),
  top_logprobs: Type.Array(nullable(Type.Record(Type.String(), Type.Number()))),
  text_offset: Type.Array(Type.Integer({ description: "Start of the token in the choice's text, in code points." })),
});

/** A token of the text with its log-probabilities; null for the first token of a prompt. */
export interface ScoredToken {
  readonly id: number;
  /** In code points of the text. */
  readonly offset: number;
  readonly logprobs: TokenLogprobs | null;
}

/**
 * The text of a token, in OpenAI's spelling. Completions have no `bytes` field, so a part of a character is written as
 * bytes. Otherwise all such parts would look alike.
 */
function named(tokenizer: TextTokenizer, id: number): string {
  const bytes = tokenizer.spelling(id);
  if (isUtf8(bytes)) return tokenizer.spelt(id);
  return `bytes:${Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
}

/** The fields are made while they are written: their entries take ten times the memory of the tokens. */
export function completionLogprobs(tokenizer: TextTokenizer, tokens: readonly ScoredToken[]) {
  return {
    tokens: LazyList.of(tokens, ({ id }) => named(tokenizer, id)),
    token_logprobs: LazyList.of(tokens, ({ logprobs }) => logprobs?.logprob ?? null),
    // The chosen token is always listed, even with logprobs: 0. It comes last, so that it wins if two ids have the same
    // text.
    top_logprobs: LazyList.of(tokens, ({ id, logprobs }) =>
      logprobs === null
        ? null
        : Object.fromEntries<number>([
            ...logprobs.top.map(([top, value]): [string, number] => [named(tokenizer, top), value]),
            [named(tokenizer, id), logprobs.logprob],
          ]),
    ),
    text_offset: LazyList.of(tokens, ({ offset }) => offset),
  };
}

/** As `completionLogprobs`, a list that is made while it is written. */
export function chatLogprobs(tokenizer: TextTokenizer, tokens: readonly ChoiceToken[]): LazyList<ChatLogprob> {
  const entry = (id: number, logprob: number) => ({
    token: tokenizer.spelt(id),
    logprob,
    bytes: [...tokenizer.spelling(id)],
  });
  return new LazyList(function* () {
    for (const { id, logprobs } of tokens) {
      if (logprobs === null) continue;
      yield { ...entry(id, logprobs.logprob), top_logprobs: logprobs.top.map(([top, value]) => entry(top, value)) };
    }
  });
}

/** The prompt's tokens for `echo`, with offsets in its text. */
export function promptTokens(
  tokenizer: TextTokenizer,
  { ids, text }: Prompt,
  logprobs: readonly (TokenLogprobs | null)[],
): ScoredToken[] {
  const detokenizer = tokenizer.detokenizer({ special: true });
  /** The part of a token that is in the text. Tokens that the tokenizer adds, and its space before a word, are not. */
  const shownOf = (id: number, piece: string, at: number): string => {
    if (text.startsWith(piece, at)) return piece;
    if (tokenizer.isSpecial(id)) return '';
    return piece.startsWith(' ') && !text.startsWith(' ', at) ? piece.slice(1) : piece;
  };
  /** Position in UTF-16 units; offsets are in code points. */
  let at = 0;
  let offset = 0;
  return ids.map((id, index) => {
    const token = { id, offset, logprobs: logprobs[index] ?? null };
    const shown = shownOf(id, detokenizer.push(id), at);
    at += shown.length;
    offset += codePointLength(shown);
    return token;
  });
}
