/** The score of an answer: a pure check of its words and of the form that the request asks for. */
import type { CheckedRequest, Form } from './requests.js';
import { sentenceEnds } from './sentences.js';

/** Share of the score that right words in another form than the asked one have. */
const OTHER_FORM = 0.5;

/**
 * Share of the points that a right answer needs and that the text has, 0..1. A text of another form than the asked one
 * has half of it. A point is met by one of its words, as a whole word in any case, also in the plural with s.
 */
export function score({ right, least = 1, form }: CheckedRequest, text: string): number {
  const judged = form === 'yes-no' ? (/\b(?:yes|no)\b/iu.exec(text)?.[0] ?? '') : text;
  const held = right.filter((point) => [point].flat().some((word) => holds(judged, word))).length;
  const content = Math.min(held, least) / least;
  return form === undefined || hasForm(form, text.trim(), least) ? content : OTHER_FORM * content;
}

/** Whether the word occurs without a negation right before it. A number is no part of a longer number. */
function holds(text: string, word: string): boolean {
  const escaped = word.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  const before = String.raw`(?<![\p{L}\p{N}]|\p{N}[.,]|\b(?:not|never|isn't|n't)\s(?:the\s|an?\s)?)`;
  return new RegExp(String.raw`${before}${escaped}(?:(?<=\p{L})s)?(?![\p{L}\p{N}]|[.,]\p{N})`, 'iu').test(text);
}

/** Whether a text has the form. @param least items of a list */
function hasForm(form: Form, text: string, least: number): boolean {
  const lines = (mark: RegExp): number => text.split('\n').filter((line) => mark.test(line)).length;
  switch (form) {
    case 'yes-no':
      return /^\P{L}*(?:yes|no)\b/iu.test(text);
    case 'one-word':
      return /^\P{L}*[\p{L}'-]+\P{L}*$/u.test(text);
    case 'number':
      return /^\P{N}?[\d.,]+\P{L}?$/u.test(text);
    case 'commas':
      return !text.includes('\n') && text.split(/,|\band\b/u).filter((item) => item.trim() !== '').length >= least;
    case 'one-sentence':
      return sentenceEnds(text).length === 1;
    case 'numbered':
      return lines(/^\s*\d+[.)]\s*\S/u) >= least;
    case 'bullets':
      return lines(/^\s*[-*•]\s*\S/u) >= least;
  }
}
