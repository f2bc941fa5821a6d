/** The form and the language that a text asks for. */
import t from 'tap';
import { asksForm, readsAsEnglish } from '../../src/gateway/text/asked-form.js';

void t.test('texts that ask for a table, marked items, data or code are found', (t) => {
  for (const text of [
    'Make a Markdown table of three countries.',
    'Give the steps as a numbered list.',
    'Put it in bullets.',
    'Give me a JSON object.',
    'Write a Python function that adds two numbers.',
    'What does ```x = 1``` do?',
  ])
    t.ok(asksForm(text), text);
  for (const text of ['Name three rivers.', 'List the months of the year.', 'Why is a desk no chair?', ''])
    t.notOk(asksForm(text), text);
  t.end();
});

void t.test('English is told from other languages, also in texts with words of both', (t) => {
  for (const text of [
    'What is the capital of France?',
    'List three fruits.',
    'Hello!',
    'How do you say "thank you" in French?',
  ])
    t.ok(readsAsEnglish(text), text);
  for (const text of [
    'Was ist die Hauptstadt von Frankreich?',
    '¿Cuál es la capital de España?',
    'Combien de jours y a-t-il dans une semaine ?',
    'Wat is de hoofdstad van Nederland?',
    'Что это?',
    '日本の首都はどこですか',
    '2 + 2',
    '',
  ])
    t.notOk(readsAsEnglish(text), text);
  t.end();
});
