/** The memory behind slots: committed pages follow the positions that slots hold. */
import t from 'tap';
import type { Slot } from '../../../src/engine/scheduler/kv/units.js';
import { PAGE, residentPages } from '../../../src/engine/runtime/libc.js';
import { advanceTo, decodeRows, logitsAt, makeExecutor, openSlot, slotParts } from '../../engine/helper.js';

const executor = await makeExecutor(t);
const { table, units } = executor;
const { model } = slotParts(executor);
const stages = [...model.stages, ...model.exits.flatMap(({ block }) => block ?? [])];
const long = 2000;
const short = 40;

t.afterEach(() => {
  executor.forget(0);
});

/** Rows of each head at a slot index, as [address, bytes of a position]. */
function rowsOf(index: number): [bigint, number][] {
  return stages.flatMap(({ kv }) =>
    Object.values(kv.tensors('past', index, 1)).flatMap((tensor) => {
      const { address, dims, type } = tensor;
      tensor.dispose();
      const [, heads = 0, capacity = 0, width = 0] = dims;
      const position = width * (type === 'f32' ? 4 : type === 'f16' ? 2 : 1);
      return Array.from({ length: heads }, (_, head): [bigint, number] => [
        address + BigInt(head * capacity * position),
        position,
      ]);
    }),
  );
}

/** The executor follows the account, as it does before each step. */
function settle(): void {
  executor.apply(table.takeOps());
}

/** Writes a slot's first positions in every unit. */
function write(slot: Slot, length: number, value: number): void {
  settle();
  for (const [address, position] of rowsOf(slot.index)) {
    model.device.upload([{ target: address, source: new Uint8Array(length * position).fill(value) }]);
  }
  units.stages.forEach((_, unit) => {
    slot.reach(unit, length);
  });
  slot.tokens = Array.from({ length }, (_, i) => i);
}

/** Resident positions at a slot index, rounded to whole pages: the maximum over all rows. */
function committed(index: number): number {
  settle();
  const counts = rowsOf(index).map(([address, position]) => {
    const bytes = Math.ceil((2 * long * position) / PAGE) * PAGE;
    return (residentPages(address, bytes) * PAGE) / position;
  });
  return Math.max(...counts);
}

/** Whether a slot holds the written value. */
function holds(slot: Slot, value: number): boolean {
  settle();
  return rowsOf(slot.index).every(([address, position]) => {
    const bytes = Buffer.alloc(slot.length * position);
    model.device.download(address, bytes);
    return bytes.equals(Buffer.alloc(bytes.length, value));
  });
}

const close = (positions: number, length: number): boolean => positions >= length && positions <= length + 16;

void t.test('a slot keeps its pages until the slots exceed their memory', (t) => {
  const [longest, other] = [openSlot(executor, []), openSlot(executor, [])];
  for (const length of [1607, 1200, 803, 90, 1]) {
    write(longest, length, 1);
    write(other, short, 2);
    const bytes = table.bytesOf(length + short);
    table.drop(longest);
    table.giveBack(bytes);
    t.ok(committed(longest.index) >= length, `${length} positions`);
    table.giveBack(bytes - 1);
    t.equal(committed(longest.index), 0, 'none is left at any page boundary');
    t.ok(holds(other, 2));
  }
  t.end();
});

void t.test('positions that a batch writes behind a stored prefix are given back with it', (t) => {
  const positionsOfPage = PAGE / (rowsOf(0)[0]?.[1] ?? 1);
  const [stored, decoding] = [openSlot(executor, []), openSlot(executor, [])];
  write(stored, 20 * positionsOfPage, 1);
  stored.live = false;
  t.ok(stored.index < decoding.index);
  write(decoding, long, 2);
  decoding.tokens.push(4);
  decodeRows(executor, [{ slot: decoding, exit: executor.exit(units.exits.length - 1) }]);
  table.drop(stored);
  table.giveBack(0);
  t.equal(committed(stored.index), 0);
  t.end();
});

void t.test('a slot gives back the positions behind its contents', (t) => {
  const slot = openSlot(executor, []);
  write(slot, long, 1);
  table.truncate(slot, 1000);
  t.ok(close(committed(slot.index), long));
  table.giveBack(0);
  const held = committed(slot.index);
  t.ok(close(held, 1000), `${held} positions of 1000`);
  t.ok(holds(slot, 1));
  t.end();
});

void t.test('a prefix is copied behind the present positions, in each unit as far as its source has come', (t) => {
  const tokens = Array.from({ length: 90 }, (_, i) => 300 + ((i * 37) % 400));
  const last = units.exits.length - 1;
  const [from, to, alone] = [openSlot(executor, tokens), openSlot(executor, tokens), openSlot(executor, tokens)];
  // Source and own progress, as [exit, positions].
  for (const [source, own] of [
    [
      [last, 60],
      [0, 30],
    ],
    [
      [0, 60],
      [last, 30],
    ],
    [
      [1, 60],
      [0, 60],
    ],
  ] as const) {
    advanceTo(executor, from, source[0], source[1]);
    advanceTo(executor, to, own[0], own[1]);
    table.copyPrefix(from, to, 60);
    t.equal(to.length, 60);
    for (const exit of [0, last]) {
      advanceTo(executor, to, exit, 89);
      advanceTo(executor, alone, exit, 89);
      t.strictSame(
        logitsAt(executor, to, exit),
        logitsAt(executor, alone, exit),
        `exit ${exit} after ${source.join()} on ${own.join()}`,
      );
    }
    for (const slot of [from, to, alone]) table.truncate(slot, 0);
  }
  t.end();
});
