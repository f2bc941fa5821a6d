import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { VERSION } from '../../src/cli.js';
import { packageRoot } from '../../src/config.js';
import { openapiDocument } from '../../src/http/openapi.js';

void t.test('the committed document equals the one that the schemas generate (npm run openapi)', async (t) => {
  t.equal(readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8'), await openapiDocument(VERSION));
});

void t.test('the document has examples with a budget', (t) => {
  const text = readFileSync(join(packageRoot, 'openapi', 'openapi.json'), 'utf8');
  t.match(text, /"x-latency-budget-ms"/);
  t.match(text, /"latency_budget_ms": 200/);
  t.end();
});
