/** The words by which a caller states the length of an answer. */
import t from 'tap';
import { statesLength } from '../../src/gateway/text/stated-length.js';

void t.test('words for a length, with a number and without, are found', (t) => {
  for (const text of [
    'Explain gravity in one sentence.',
    'Describe a rose in 50 words.',
    'Write a 1,000-word story.',
    'Use at most three short paragraphs.',
    'Summarize it in 5 bullet points.',
    'Tell me briefly how rain forms.',
    'A short poem about the sea, please.',
    'Be concise.',
    'Explain it in detail.',
    'Show it step by step.',
    'Write an essay about rivers.',
    'TL;DR?',
    'Is fire cold? Answer with yes or no.',
    'How much is 9 - 4? Answer with the number only.',
  ])
    t.ok(statesLength(text), text);
  t.end();
});

void t.test('other requests state none, although they have numbers and similar words', (t) => {
  for (const text of [
    '',
    'What is the capital of France?',
    'Name three rivers.',
    'List the months of the year.',
    'What are the four seasons?',
    'I have 3 apples and buy 4 more. How many apples do I have?',
    'How does a bicycle move?',
    'Translate "words" into French.',
    'Was ist die Hauptstadt von Frankreich?',
    'Along the river, where do otters live?',
  ])
    t.notOk(statesLength(text), text);
  t.end();
});
