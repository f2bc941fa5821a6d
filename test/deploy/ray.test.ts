/** deploy/ray on a cluster of three raylets: a burst scales it up, a node is killed, and it scales back. */
import { realpathSync } from 'node:fs';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import t from 'tap';
import { freePorts } from '../../bench/ports.js';
import { packageRoot } from '../../src/cli/options/config.js';
import { missing, main, printed, serve, start, tinyModel } from './helper.js';

const skip = missing('ray');
const model = skip === false ? tinyModel(t.testdir({}), 4096) : '';

interface Result {
  readonly before: readonly string[];
  readonly burst: readonly string[];
  readonly killed: readonly string[];
  readonly after: readonly string[];
  readonly up_s: number;
  readonly down_s: number;
  readonly first_s: number;
  readonly whole_s: number;
  readonly added_ms: number;
}

/** The Python of the environment that has `ray`. */
function pythonOfRay(): string {
  const found = (process.env.PATH ?? '').split(':').flatMap((folder) => {
    try {
      return [realpathSync(join(folder, 'ray'))];
    } catch {
      return [];
    }
  });
  return join(dirname(found[0] ?? ''), 'python');
}

const share = (ends: readonly string[]): number => ends.filter((end) => end === 'met').length / ends.length;

t.setTimeout(1_200_000);
void t.test('Ray Serve', { skip }, async (t) => {
  const [port = 0] = await freePorts(1);
  const options = ['--model', model, '--threads', '1', '--max-running', '4'];
  const direct = await serve(t, model, ['--max-running', '4']);
  const script = join(packageRoot, 'test', 'deploy', 'ray_fleet.py');
  const python = start(t, pythonOfRay(), [script, String(port), direct.url], {
    SORTIE_COMMAND: [process.execPath, main, 'serve', ...options].join(' '),
  });
  const text = printed(python);
  await once(python, 'exit');
  const [, json = 'null'] = /^RESULT (.*)$/m.exec(text()) ?? [];
  const result = JSON.parse(json) as Result | null;
  t.ok(result !== null, 'the fleet ran to its end');
  if (result === null) return;
  t.equal(share(result.before), 1, 'one replica');
  t.ok(result.first_s < 0.7 * result.whole_s, `a stream begins after ${result.first_s} of ${result.whole_s} s`);
  t.ok(
    result.burst.every((end) => end === 'met' || end === 'missed'),
    'no request of the burst fails',
  );
  const failed = result.killed.filter((end) => end !== 'met' && end !== 'missed');
  t.ok(failed.length <= 0.1 * result.killed.length, `${failed.length} of ${result.killed.length} fail with the node`);
  t.equal(share(result.after), 1, 'back to one replica');
  const shares = [share(result.burst), share(result.killed)].map((value) => value.toFixed(3));
  t.comment(`1 to 3 replicas in ${result.up_s.toFixed(1)} s, back in ${result.down_s.toFixed(1)} s`);
  t.comment(
    `budgets met: burst ${shares[0]} of ${result.burst.length}, node killed ${shares[1]} of ${result.killed.length}`,
  );
  t.comment(`failed with the node: ${failed.slice(0, 5).join('; ')}; Ray adds ${result.added_ms.toFixed(1)} ms`);
});
