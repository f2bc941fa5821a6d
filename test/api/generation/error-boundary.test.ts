import t from 'tap';
import { withErrorBoundary } from '../../../src/api/generation/error-boundary.js';
import type { SequenceSink } from '../../../src/engine/client/engine.js';

const EVENTS = ['planned', 'refused', 'prompt', 'token', 'ended', 'lost'] as const;

/** A sink that calls `act` with the name and the arguments of each method. */
function sinkOf(
  act: (name: string, event: unknown[]) => void,
): Record<keyof SequenceSink, (...event: unknown[]) => void> {
  const methods = EVENTS.map(
    (name) =>
      [
        name,
        (...event: unknown[]) => {
          act(name, event);
        },
      ] as const,
  );
  return Object.fromEntries(methods) as ReturnType<typeof sinkOf>;
}

void t.test('an error thrown by any event is reported and not rethrown', (t) => {
  const told: unknown[] = [];
  const broken = sinkOf((name) => {
    throw new Error(name);
  });
  const sink = withErrorBoundary(broken, (error) => told.push(error)) as unknown as typeof broken;
  for (const name of EVENTS) sink[name]();
  t.match(
    told,
    EVENTS.map((name) => new Error(name)),
  );
  t.equal(told.length, EVENTS.length);
  t.end();
});

void t.test('the boundary passes events unchanged', (t) => {
  const seen: unknown[] = [];
  const whole = sinkOf((name, event) => seen.push(name, event));
  const sink = withErrorBoundary(whole, (error) => seen.push(error)) as unknown as typeof whole;
  for (const name of EVENTS) sink[name](1, ...(name === 'token' ? [2] : []));
  t.same(
    seen,
    EVENTS.flatMap((name) => [name, name === 'token' ? [1, 2] : [1]]),
  );
  t.end();
});
