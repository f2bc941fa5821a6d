import t from 'tap';
import { TraceError, parseTrace } from '../../src/simulate/trace.js';

const header = 'TIMESTAMP,ContextTokens,GeneratedTokens';

void t.test('reads the public format, with either line end, by rising time', (t) => {
  const text = `${header}\r\n2023-11-16 18:15:50.5000000,396,109\r\n2023-11-16 18:15:46.2500000,374,44\r\n`;
  t.same(parseTrace(text), [
    { atMs: 0, promptTokens: 374, outputTokens: 44 },
    { atMs: 4250, promptTokens: 396, outputTokens: 109 },
  ]);
  t.end();
});

void t.test('names line and rule of what it can not read', (t) => {
  t.throws(() => parseTrace('a,b,c\n'), new TraceError(`line 1 of the trace must be "${header}", not "a,b,c"`));
  t.throws(() => parseTrace(`${header}\n`), /at least one request/);
  t.throws(() => parseTrace(`${header}\n2023-11-16 18:15:46.1,12\n`), /line 2/);
  t.throws(() => parseTrace(`${header}\n2023-11-16 18:15:46.1,0,5\n`), /ContextTokens must be at least 1/);
  t.end();
});
