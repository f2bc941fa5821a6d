import t from 'tap';
import { answerRequest, greedy } from '../../bench/greedy-request.js';
import { sequencesOf } from '../../src/protocol/request.js';

void t.test(
  'the sequences of an answer have their own prompt, length and seed, and share the rest by reference',
  (t) => {
    const stopTokens = [2];
    const first = greedy('a', [1, 2], 1, 9, { stopTokens, tenant: 'x' });
    const second = { ...first, id: 'b', prompt: [3], maxTokens: 4, sampling: { ...first.sampling, seed: 8 } };
    const request = answerRequest(first, second);
    const sequences = sequencesOf(JSON.parse(JSON.stringify(request)) as typeof request);
    t.same(sequences, [first, second]);
    t.equal(sequences[0]?.stopTokens, sequences[1]?.stopTokens);
    const [prompt] = request.prompts;
    const choices = ['a-0', 'a-1'].map((id) => ({ id, prompt: 0, maxTokens: 9, seed: null }));
    t.ok(sequencesOf({ ...request, sequences: choices }).every((each) => each.prompt === prompt));
    t.end();
  },
);
