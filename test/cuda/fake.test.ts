/** The fake CUDA libraries find the faults that they are for, and report none where there is none. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import koffi from 'koffi';
import t from 'tap';
import { fakeLibraries, Missing, readTrace } from './installation.js';

const CAPTURE_UNSUPPORTED = 900;
const CAPTURE_INVALIDATED = 901;

const folder = await fakeLibraries(t).catch((error: unknown) => {
  if (error instanceof Missing) return error;
  throw error;
});
if (folder instanceof Missing) {
  t.pass('skipped', { skip: folder.message });
} else {
  await tests(folder);
}

async function tests(libraries: string): Promise<void> {
  const file = join(libraries, 'trace');
  process.env.FAKE_CUDA_TRACE = file;
  process.env.FAKE_CUDA_MEMORY_MIB = '64,32';
  process.env.FAKE_CUDA_DEVICES = '2';
  const driver = koffi.load(join(libraries, 'libcuda.so.1'));
  const runtime = koffi.load(join(libraries, 'libcudart.so.13'));
  const mark = driver.func('void fakeMark(const char*)');
  const alloc = driver.func('int cuMemAlloc_v2(_Out_ void**, size_t)');
  const copy = driver.func('int cuMemcpyAsync(void*, void*, size_t, void*)');
  const synchronous = runtime.func('int cudaMemcpy(void*, void*, size_t, int)');
  const createStream = runtime.func('int cudaStreamCreateWithFlags(_Out_ void**, unsigned int)');
  const wait = driver.func('int cuStreamSynchronize(void*)');
  // The launch of a kernel takes two structs by value, which add nothing here.
  const launch = driver.func('int fake_kernel(void*, const char*, unsigned int, unsigned int, unsigned int)');
  const kernel = (stream: bigint): unknown => launch(stream, 'test', 1, 1, 1);
  const made = (make: (out: [bigint | null]) => unknown): bigint => {
    const out: [bigint | null] = [null];
    if (make(out) !== 0 || out[0] === null) throw new Error('nothing was made');
    return out[0];
  };
  let sections = 0;
  /** Lines of the trace since the last call. */
  const lines = (): string[] => {
    mark('section');
    const trace = readTrace(file);
    const found = trace.slice(sections, -1).flatMap((section) => section.lines);
    sections = trace.length - 1;
    return found;
  };
  const faults = (): string[] => lines().filter((line) => /^(unordered|illegal|outside|foreign)/.test(line));

  t.equal(alloc([null], 64), 3, 'an allocation fails before cuInit');
  driver.func('int cuInit(unsigned int)')(0);
  t.equal(alloc([null], 64), 201, 'an allocation fails without a context');
  const context = made((out) => driver.func('int cuDevicePrimaryCtxRetain(_Out_ void**, int)')(out, 0));
  driver.func('int cuCtxSetCurrent(void*)')(context);

  const a = made((out) => alloc(out, 100));
  const b = made((out) => runtime.func('int cudaMalloc(_Out_ void**, size_t)')(out, 100));
  const [first, second] = [made((out) => createStream(out, 1)), made((out) => createStream(out, 1))];
  const blocking = made((out) => createStream(out, 0));
  const event = made((out) => driver.func('int cuEventCreate(_Out_ void**, unsigned int)')(out, 0));
  const record = driver.func('int cuEventRecord(void*, void*)');
  const after = driver.func('int cuStreamWaitEvent(void*, void*, unsigned int)');
  lines();

  await t.test('copies move bytes between both libraries and the host', async (t) => {
    const from = Buffer.from('abcdefgh');
    const to = Buffer.alloc(8);
    t.equal(copy(a, from, 8, first), 0);
    t.equal(copy(b, a, 8, first), 0);
    t.equal(copy(to, b, 8, first), 0);
    wait(first);
    t.equal(to.toString(), 'abcdefgh');
    t.match(lines(), ['copy H2D s1 8', 'copy D2D s1 8', 'copy D2H s1 8', 'wait s1']);
    t.equal(copy(b + 96n, a, 8, first), 1, 'a copy beyond its memory fails');
    t.match(faults(), [/^outside copy/]);
  });

  await t.test('a kernel beside an unfinished copy of another stream is unordered', async (t) => {
    copy(a, b, 8, first);
    kernel(second);
    t.strictSame(faults(), ['unordered kernel s2 beside copy s1'], 'two streams');
    kernel(second);
    t.strictSame(faults(), [], 'one line for each pair');
    copy(a, b, 8, second);
    t.strictSame(faults(), [], 'one stream');
    wait(second);
    kernel(first);
    t.strictSame(faults(), [], 'a wait of the host orders them');
    wait(first);
    synchronous(a, b, 8, 3);
    kernel(first);
    t.strictSame(faults(), ['unordered kernel s1 beside copy s0'], 'a copy on the device, on the default stream');
    wait(null);
    wait(first);
    synchronous(Buffer.alloc(8), b, 8, 2);
    kernel(first);
    t.strictSame(faults(), [], 'the host waits for a synchronous copy to the host');
    wait(first);
    synchronous(a, b, 8, 3);
    kernel(blocking);
    t.strictSame(faults(), [], 'the default stream orders a blocking one');
    wait(blocking);
    wait(null);
    copy(a, b, 8, first);
    record(event, first);
    after(second, event, 0);
    kernel(second);
    t.strictSame(faults(), [], 'an event orders them');
    copy(b, a, 8, first);
    t.strictSame(faults(), ['unordered copy s1 beside kernel s2'], 'a copy beside an unfinished kernel');
    wait(first);
    wait(second);
  });

  await t.test('each card has its memory, its context and its order', async (t) => {
    const other = made((out) => driver.func('int cuDevicePrimaryCtxRetain(_Out_ void**, int)')(out, 1));
    const use = driver.func('int cuCtxSetCurrent(void*)');
    const peer = driver.func('int cuMemcpyPeerAsync(void*, void*, void*, void*, size_t, void*)');
    kernel(first);
    use(other);
    t.equal(alloc([null], 33 * 2 ** 20), 2, 'the second card has less memory');
    const [c, third] = [made((out) => alloc(out, 100)), made((out) => createStream(out, 1))];
    t.equal(kernel(third), 0);
    t.strictSame(faults(), [], 'kernels of two cards have nothing in common');
    t.equal(kernel(first), 400);
    t.strictSame(faults(), ['foreign kernel s1 on card1'], 'a kernel needs the context of its card');
    t.equal(peer(c, other, c, context, 8, third), 1, 'a copy names the context of each address');
    peer(c, other, a, context, 8, third);
    t.strictSame(faults(), ['unordered copy s4 beside kernel s1'], 'a copy between cards touches both');
    t.equal(record(event, third), 400, 'an event belongs to a card');
    wait(third);
    use(context);
    wait(first);
    lines();
  });

  await t.test('a capture records copies, and rejects calls that CUDA forbids', async (t) => {
    const begin = runtime.func('int cudaStreamBeginCapture(void*, int)');
    const end = runtime.func('int cudaStreamEndCapture(void*, _Out_ void**)');
    const launch = runtime.func('int cudaGraphLaunch(void*, void*)');
    const to = Buffer.alloc(8);
    copy(a, Buffer.from('ABCDEFGH'), 8, first);
    begin(first, 0);
    copy(b, a, 8, first);
    kernel(first);
    const graph = made((out) => end(first, out));
    copy(to, b, 8, first);
    wait(first);
    t.equal(to.toString(), 'abcdefgh', 'a captured copy does not run');
    launch(graph, first);
    copy(to, b, 8, first);
    wait(first);
    t.equal(to.toString(), 'ABCDEFGH', 'it runs at the launch');
    t.strictSame(faults(), []);
    begin(first, 0);
    t.equal(alloc([null], 64), CAPTURE_UNSUPPORTED);
    t.equal(wait(first), CAPTURE_UNSUPPORTED);
    t.equal(synchronous(a, b, 8, 3), CAPTURE_UNSUPPORTED);
    t.equal(end(first, [null]), CAPTURE_INVALIDATED);
    t.strictSame(faults(), ['illegal an allocation', 'illegal a wait for a stream', 'illegal a copy']);
  });

  await t.test('an allocation beyond the memory of the card fails', async (t) => {
    t.equal(alloc([null], 65 * 2 ** 20), 2);
    t.match(lines(), [/^alloc .* fails$/]);
  });

  await t.test('the host that touches device memory ends with a sentence', async (t) => {
    const script = `
      const koffi = require('koffi');
      const runtime = koffi.load(${JSON.stringify(join(libraries, 'libcudart.so.13'))});
      const out = [null];
      runtime.func('int cudaMalloc(_Out_ void**, size_t)')(out, 64);
      console.log(new Uint8Array(koffi.view(out[0], 64))[0]);`;
    const result = promisify(execFile)(process.execPath, ['-e', script], { env: { ...process.env, NODE_OPTIONS: '' } });
    await t.rejects(result, { code: 86, stderr: /the host touches device memory at 0x/ });
  });
}
