/** Grammars, which constrain an answer: a part of a request. */

/** Function calls, in the format of gateway/text/tool-form.ts. */
export interface CallsGrammar {
  readonly kind: 'calls';
  /** At least one; `schema` is the JSON schema of its arguments, as text. */
  readonly functions: readonly { readonly name: string; readonly schema: string }[];
  /** Most calls in one answer. */
  readonly most: number;
  /** The answer may be any text, unless it begins like a call. */
  readonly isOptional: boolean;
  /** The answer may be JSON that validates against this schema, given as text. Absent: calls, or text if optional. */
  readonly answer?: string;
}

/** The tokens around the thoughts that may precede what a grammar holds. */
export interface ThoughtTokens {
  readonly open: number;
  readonly close: number;
  /** Line breaks, which may follow the closing token. */
  readonly blanks: readonly number[];
  /** Whether the prompt ends inside of thoughts. */
  readonly isOpen: boolean;
  /** Most tokens between the two; the closing token follows. Null: any number. */
  readonly most: number | null;
}

export type Grammar = (
  | CallsGrammar
  /** JSON that validates against a schema, which is given as text. */
  | { readonly kind: 'json'; readonly schema: string }
  /** A text that a regular expression matches as a whole. */
  | { readonly kind: 'regex'; readonly pattern: string }
  /** One of these texts; at least one. */
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** A text of a grammar that the client wrote in Lark's notation. */
  | { readonly kind: 'written'; readonly grammar: string }
  /** Any text: only its thoughts are bounded. */
  | { readonly kind: 'free' }
) & {
  /** Absent: the grammar holds from the first token. */
  readonly thoughts?: ThoughtTokens;
};
