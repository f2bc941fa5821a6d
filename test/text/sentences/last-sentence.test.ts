/** The place to which a text without an end of its own goes back. */
import t from 'tap';
import { lastSentenceEnd } from '../../../src/text/sentences/last-sentence.js';

for (const [text, kept] of [
  ['No, a tomato is not a fruit. While both are red, they', 'No, a tomato is not a fruit.'],
  ['One. Two! Three', 'One. Two!'],
  ['A whole sentence.', 'A whole sentence.'],
  ['He said "Go." Then he', 'He said "Go."'],
  ['Pi is 3.14 and so', ''],
  ['It costs 3.', ''],
  ['Ask Dr. Who', ''],
  ['The sky is blue because of', ''],
  ['Dear Sir,\n\nI', ''],
  ['', ''],
  ['\u5929\u7a7a\u662f\u84dd\u8272\u7684\u3002\u56e0\u4e3a', '\u5929\u7a7a\u662f\u84dd\u8272\u7684\u3002'],
  ['Fruits:\n1. Apples\n2. Bananas\n3. Che', 'Fruits:\n1. Apples\n2. Bananas'],
  ['- Eat less.\n- Sleep mo', '- Eat less.'],
  ['| a | b |\n| - | - |\n| 1', ''],
  ['| a | b |\n| - | - |\n| 1 | 2 |\n| 3', '| a | b |\n| - | - |\n| 1 | 2 |'],
  ['So:\n```js\nf();\n```\nThis calls', 'So:\n```js\nf();\n```'],
  ['Use it. So:\n```js\nf();\ng(', 'Use it.'],
  ['# Title\n\nText', ''],
] as const)
  void t.test(`${JSON.stringify(text)} goes back to ${JSON.stringify(kept)}`, async (t) => {
    t.equal(text.slice(0, lastSentenceEnd(text)), kept);
  });
