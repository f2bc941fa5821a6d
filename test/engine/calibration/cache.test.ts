import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  type CalibrationKey,
  machineName,
  readCalibration,
  writeCalibration,
} from '../../../src/engine/calibration/startup.js';
import { table } from '../../scheduler/sample.js';

const key: CalibrationKey = {
  manifest: 'a',
  machine: machineName(),
  threads: 2,
  device: 'cpu',
  kernels: ['w8a8'],
  runtime: '1',
  plan: {},
};

void t.test('a stored calibration is read back only for the same model, machine, threads and runtime', async (t) => {
  const dir = join(t.testdir(), 'home', 'cache');
  t.same(readCalibration(dir, key), { cost: null, why: null }, 'nothing stored yet');
  t.equal(writeCalibration(dir, key, table), null);
  t.same(readCalibration(dir, key).cost, table);
  const others = [{ manifest: 'b' }, { machine: 'x' }, { threads: 3 }, { runtime: '2' }, { kernels: ['int4'] }];
  const devices = ['570.86, CUDA 12.8', '580.1, CUDA 13.0'].map((driver) => ({
    devices: [['NVIDIA L4', driver] as const],
  }));
  for (const other of [...others, ...devices]) {
    t.equal(readCalibration(dir, { ...key, ...other }).cost, null, JSON.stringify(other));
  }
  const [older = {}, newer = {}] = devices;
  writeCalibration(dir, { ...key, ...older }, table);
  t.same(readCalibration(dir, { ...key, ...older }).cost, table);
  t.equal(readCalibration(dir, { ...key, ...newer }).cost, null, 'a new driver');
});

void t.test('a corrupt or foreign file is skipped with a reason', async (t) => {
  const dir = join(t.testdir(), 'cache');
  writeCalibration(dir, key, table);
  const file = join(dir, readdirSync(dir)[0] ?? '');
  const text = readFileSync(file, 'utf8');
  const broken: [string, RegExp][] = [
    [text.slice(0, 100), /not JSON/],
    ['{}', /shape/],
    [text.replace(/"ms":[\d.]+/, '"ms":99'), /checksum/],
    [text.replace('"manifest":"a"', '"manifest":"z"'), /another model/],
  ];
  for (const [content, reason] of broken) {
    writeFileSync(file, content);
    const { cost, why } = readCalibration(dir, key);
    t.equal(cost, null);
    t.match(why, reason);
  }
});

void t.test('an unwritable folder is a reason, not an error', async (t) => {
  const dir = t.testdir({ file: '' });
  t.match(writeCalibration(join(dir, 'file', 'cache'), key, table), /can't be written/);
  if (process.platform === 'linux') t.match(writeCalibration('/proc/nope', key, table), /can't be written/);
});

void t.test('a failed write leaves no temporary file behind', async (t) => {
  const dir = join(t.testdir(), 'cache');
  t.equal(writeCalibration(dir, key, table), null);
  const [name = ''] = readdirSync(dir);
  t.strictSame(readdirSync(dir), [name], 'a successful write leaves none either');
  rmSync(join(dir, name));
  // A file can't take the place of a folder.
  mkdirSync(join(dir, name));
  t.match(writeCalibration(dir, key, table), /can't be written \(EISDIR\)/);
  t.match(readCalibration(dir, key), { cost: null, why: /can't be read \(EISDIR\)/ });
  t.strictSame(readdirSync(dir), [name]);
});

void t.test("another server's temporary file stays, even with the same process id", async (t) => {
  const dir = join(t.testdir(), 'cache');
  t.equal(writeCalibration(dir, key, table), null);
  const theirs = join(dir, `${readdirSync(dir)[0] ?? ''}.${process.pid}`);
  writeFileSync(theirs, 'half');
  t.equal(writeCalibration(dir, key, table), null);
  t.equal(readFileSync(theirs, 'utf8'), 'half');
  t.same(readCalibration(dir, key).cost, table);
});
