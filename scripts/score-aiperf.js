/**
 * Scores a run of AIPerf by the budget of each request: `node scripts/score-aiperf.js TRACE RECORDS`.
 *
 *     {"session_id": "r0", "timestamp": 0, "text_input": "Why?", "extra": {"sortie": {"latency_budget_ms": 2000}}}
 *     {"session_id": "r1", "timestamp": 700, "text_input": "How do I boil an egg?"}
 *
 *     aiperf profile --model smollm2-135m-sorted --url http://localhost:8080 --endpoint-type chat --streaming \
 *       --input-file trace.jsonl --custom-dataset-type mooncake_trace --fixed-schedule --use-server-token-count \
 *       --tokenizer HuggingFaceTB/SmolLM2-135M-Instruct --ui none --output-artifact-dir out
 *     node scripts/score-aiperf.js trace.jsonl out/profile_export.jsonl
 *
 * Lines without `output_length` state no `max_tokens`.
 *
 * Each line of the trace (`mooncake_trace`) has its own `session_id`, and may have a budget in `extra`. RECORDS is
 * profile_export.jsonl. A request without a record, and one with an error, misses its budget.
 */
import { readFileSync } from 'node:fs';

const lines = (file) =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line));

const [trace, records] = process.argv.slice(2);
const answered = new Map(lines(records).map((record) => [record.metadata.conversation_id, record]));
const classes = new Map();
for (const { session_id: id, extra } of lines(trace)) {
  const budget = extra?.sortie?.latency_budget_ms ?? null;
  const record = answered.get(id);
  const ms = record?.error ? null : (record?.metrics.request_latency?.value ?? null);
  const counts = classes.get(budget) ?? { requests: 0, kept: 0, failed: 0 };
  counts.requests += 1;
  if (ms === null) counts.failed += 1;
  else if (ms <= (budget ?? Infinity)) counts.kept += 1;
  classes.set(budget, counts);
}
for (const [budget, { requests, kept, failed }] of [...classes].sort(([a], [b]) => (a ?? Infinity) - (b ?? Infinity))) {
  const share = ((100 * kept) / requests).toFixed(1);
  console.log(`${budget === null ? 'no budget' : `${budget} ms`}: ${share}% of ${requests} kept, ${failed} failed`);
}
