/** A constraint behind thoughts, with a constraint in the place of a grammar. */
import t from 'tap';
import { AfterThoughts, FREE_TEXT } from '../../../src/engine/grammar/after-thoughts.js';
import { type Constraint, isPending } from '../../../src/engine/constraint.js';

const [OPEN, CLOSE, BREAK, WORD, A] = [0, 1, 2, 3, 4] as const;

/** Allows `A` alone, and ends after it. */
class OnlyA implements Constraint {
  mask: Uint8Array | null = new Uint8Array([0, 0, 0, 0, 1]);
  readonly accepted: number[] = [];
  enforced = true;
  released = false;
  complete = false;
  failed = null;
  isClosed = false;
  accept(token: number): void {
    this.accepted.push(token);
    this.mask = null;
  }
  close(): void {
    this.isClosed = true;
  }
}

const thoughts = { open: OPEN, close: CLOSE, blanks: [BREAK], isOpen: false, most: null };

void t.test('thoughts are free, their tags and line breaks never reach the grammar', (t) => {
  const inner = new OnlyA();
  const constraint = new AfterThoughts(inner, thoughts);
  t.same([...(constraint.mask ?? [])], [1, 0, 0, 0, 1], 'an answer thinks or begins');
  t.equal(constraint.mask, constraint.mask, 'a mask is made once');
  constraint.accept(OPEN);
  for (const token of [WORD, OPEN, BREAK, A]) {
    t.match(constraint, { enforced: false, released: false, complete: false });
    t.notOk(isPending(constraint));
    constraint.accept(token);
  }
  inner.complete = true;
  t.notOk(constraint.complete, 'thoughts do not end an answer');
  inner.complete = false;
  constraint.accept(CLOSE);
  t.same([...(constraint.mask ?? [])], [0, 0, 1, 0, 1]);
  t.ok(constraint.enforced);
  constraint.accept(BREAK);
  t.same(inner.accepted, []);
  constraint.accept(A);
  t.same(inner.accepted, [A]);
  t.ok(isPending(constraint), 'the next mask is that of the grammar');
  inner.complete = true;
  t.ok(constraint.complete);
  constraint.close();
  t.ok(inner.isClosed);
  t.end();
});

void t.test('an answer may do without thoughts, and a prompt may open them', (t) => {
  const inner = new OnlyA();
  const without = new AfterThoughts(inner, thoughts);
  without.accept(A);
  t.same(inner.accepted, [A]);
  inner.mask = new Uint8Array([0, 0, 0, 1, 0]);
  t.same([...(without.mask ?? [])], [0, 0, 0, 1, 0], 'no thoughts in the middle');
  const opened = new AfterThoughts(new OnlyA(), { ...thoughts, isOpen: true });
  t.notOk(opened.enforced);
  opened.accept(CLOSE);
  t.ok(opened.enforced);
  t.end();
});

void t.test('the closing token ends thoughts at their bound, before any text as well', (t) => {
  for (const inner of [new OnlyA(), FREE_TEXT]) {
    const constraint = new AfterThoughts(inner, { ...thoughts, isOpen: true, most: 2 });
    constraint.accept(WORD);
    t.notOk(constraint.enforced);
    constraint.accept(WORD);
    t.ok(constraint.enforced);
    t.same([...(constraint.mask ?? [])], [0, 1], 'ids beyond the mask are excluded');
    constraint.accept(CLOSE);
    t.equal(constraint.enforced, inner.enforced);
    constraint.accept(A);
    t.equal(constraint.released, inner.released);
  }
  const none = new AfterThoughts(FREE_TEXT, { ...thoughts, most: 0 });
  t.notOk(isPending(none), 'an answer without thoughts is free');
  none.accept(OPEN);
  t.ok(none.enforced);
  t.end();
});
