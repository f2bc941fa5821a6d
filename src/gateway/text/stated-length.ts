/**
 * The words of a text that say how long an answer is to be.
 *
 * Pure. Must not know: chats. English alone: a text in another language states no length.
 */

const NUMBER = String.raw`(?:\d[\d,.]*|a|an|one|two|three|four|five|six|seven|eight|nine|ten|a few|a couple of|several)`;
const UNIT = String.raw`(?:words?|sentences?|paragraphs?|lines?|pages?|characters?|letters?|tokens?|syllables?|bullets?|bullet points?)`;

/** A number of units, such as "one sentence", "50-word" or "at most 3 short lines". */
const COUNTED = new RegExp(String.raw`\b${NUMBER}[\s-](?:\w+[\s-])?${UNIT}\b`, 'i');

/** Words for a length without a number, and texts that have one of their own. */
const NAMED = new RegExp(
  [
    String.raw`\b(?:brief(?:ly)?|short(?:er|est|ly)?|concise(?:ly)?|succinct(?:ly)?|terse(?:ly)?|in a nutshell|tl;?dr)\b`,
    String.raw`\b(?:long(?:er|est)?|length(?:y|s)?|detail(?:s|ed)?|in[- ]depth|thorough(?:ly)?|comprehensive(?:ly)?)\b`,
    String.raw`\b(?:elaborate|essay|haiku|limerick|sonnet|tweet|step[- ]by[- ]step)\b`,
  ].join('|'),
  'i',
);

/** A form that names the whole answer: "answer with yes or no", "the number only". */
const ONLY = /\b(?:yes or no|true or false|only|just|nothing else|no explanation)\b/i;

/** Whether a text says how long its answer is to be. */
export function statesLength(text: string): boolean {
  return COUNTED.test(text) || NAMED.test(text) || ONLY.test(text);
}
