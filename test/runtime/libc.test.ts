/** C library calls for memory. */
import { execFileSync } from 'node:child_process';
import 'koffi';
import t from 'tap';

void t.test("PAGE is the system's page size on any processor", async (t) => {
  const { arch } = process;
  Object.defineProperty(process, 'arch', { value: 'arm64' });
  t.teardown(() => Object.defineProperty(process, 'arch', { value: arch }));
  const { PAGE, reserve, residentPages, unreserve, viewMemory } = await import('../../src/engine/runtime/libc.js');
  const page = Number(execFileSync('getconf', ['PAGESIZE'], { encoding: 'utf8' }));
  // If PAGE were larger, mincore would write beyond its buffer below.
  if (!t.equal(PAGE, page)) return;
  const address = reserve(256 * page);
  const written = new Uint8Array(viewMemory(address, 256 * page));
  for (let at = 0; at < written.length; at += 4 * page) written[at] = 1;
  t.equal(residentPages(address, written.length), 64);
  unreserve(address, written.length);
});
