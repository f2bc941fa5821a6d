/**
 * Checks a grammar in Lark's notation before the grammar library reads it. Knows: Lark's notation, not its meaning.
 *
 * - `%json` would carry a schema past the checks of schema-check.ts.
 * - A long chain of rules, or of parentheses, overflows the library's stack.
 */
import { SchemaError } from './schema-error.js';

/**
 * Most rules, plus the deepest parentheses of each. The library's stack held 500 chained rules and overflowed at 700.
 */
const MAX_LEVELS = 400;

/** Texts, comments and patterns, whose content has no meaning here. Then directives, definitions, parentheses. */
const PARTS = /"(?:\\.|[^"\\\n])*"|\/\/[^\n]*|#[^\n]*|\/(?:\\.|[^/\\\n])+\/|%[a-z]+|[:()]/g;

const REFUSED: Readonly<Record<string, string>> = {
  '%json': 'use response_format for a JSON schema',
  '%llguidance': "the library's options are the server's",
};

/** @throws SchemaError for a grammar that the library must not see */
export function checkLark(grammar: string): void {
  let levels = 0;
  let open = 0;
  let deepest = 0;
  for (const [part] of grammar.matchAll(PARTS)) {
    const why = REFUSED[part];
    if (why !== undefined) throw new SchemaError(`${part} is not supported; ${why}`);
    if (part === ':') {
      levels += 1 + deepest;
      open = deepest = 0;
    } else if (part === '(') deepest = Math.max(deepest, ++open);
    else if (part === ')') open--;
  }
  levels += deepest;
  if (levels <= MAX_LEVELS) return;
  throw new SchemaError(
    `its rules, and the deepest parentheses of each, must be at most ${MAX_LEVELS} together, got ${levels}`,
  );
}
