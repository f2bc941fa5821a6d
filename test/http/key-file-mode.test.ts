import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exposure } from '../../src/gateway/http/keys.js';
import { warnOfKeyFile } from '../../src/gateway/serve/startup-log.js';

void t.test('a key file that other users can read or change is logged with its mode', (t) => {
  const file = join(t.testdir({ keys: 'sesame' }), 'keys');
  const lines: string[] = [];
  const log = { warn: (_fields: object, message: string) => lines.push(message) } as never;
  for (const [mode, shown] of [
    [0o600, null],
    [0o440, null],
    [0o660, '660'],
    [0o644, '644'],
    [0o666, '666'],
  ] as const) {
    chmodSync(file, mode);
    t.equal(exposure(file), shown);
    warnOfKeyFile(file, log);
  }
  warnOfKeyFile(null, log);
  t.equal(lines.length, 3);
  t.match(lines[2], /mode 666/);
  t.end();
});
