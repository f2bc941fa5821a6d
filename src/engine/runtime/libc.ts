/** C library calls for memory at fixed addresses that the kernel commits page by page (linux, darwin). */
import koffi from 'koffi';
import { readFileSync } from 'node:fs';

const linux = process.platform === 'linux';
const library = koffi.load(linux ? 'libc.so.6' : 'libSystem.dylib');
const mmap = library.func('int64_t mmap(void*, size_t, int, int, int, int64_t)');
const munmap = library.func('int munmap(void*, size_t)');
const madvise = library.func('int madvise(void*, size_t, int)');
const mincore = library.func('int mincore(void*, size_t, void*)');
const memcpy = library.func('void* memcpy(void*, void*, size_t)');
const sysconf = library.func('long sysconf(int)');

const dlopen = library.func('void* dlopen(const char*, int)');

const trim = linux ? library.func('int malloc_trim(size_t)') : undefined;

const PROT_READ_WRITE = 3;
const MAP_PRIVATE_ANONYMOUS_NORESERVE = linux ? 0x02 | 0x20 | 0x4000 : 0x02 | 0x1000 | 0x40;
const MADV_RANDOM = 1;
const MADV_DONTNEED = 4;
const MADV_NOHUGEPAGE = 15;
const MADV_COLLAPSE = 25;
const RTLD_LAZY_NODELETE = linux ? 0x1001 : 0x81;
const SC_PAGESIZE = linux ? 30 : 29;

/**
 * Page size in bytes, the unit of mmap, madvise and mincore. The system reports it, because one processor may support
 * several (4, 16 and 64 KiB on arm64), and mincore writes a byte for each page.
 */
export const PAGE = Number(sysconf(SC_PAGESIZE));

/**
 * Reserves zeroed memory; a page costs RAM from its first write on.
 * @throws RangeError if the address space or an overcommit limit does not allow it
 */
export function reserve(bytes: number): bigint {
  const address = BigInt(mmap(null, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0) as number | bigint);
  if (address === -1n) throw new RangeError(`cannot reserve ${bytes} bytes of memory`);
  // A huge page would commit 2 MiB for a sequence of one position.
  if (linux) madvise(address, bytes, MADV_NOHUGEPAGE);
  return address;
}

/** Unmaps the memory of `reserve`. */
export function unreserve(address: bigint, bytes: number): void {
  munmap(address, bytes);
}

/** Returns the whole pages within [address, address + bytes) to the system; they then read as zeros. */
export function releasePages(address: bigint, bytes: number): void {
  const page = BigInt(PAGE);
  const start = ((address + page - 1n) / page) * page;
  const end = ((address + BigInt(bytes)) / page) * page;
  if (end > start) madvise(start, Number(end - start), MADV_DONTNEED);
}

/** Copies between areas that do not overlap. */
export function copyBytes(target: bigint, source: bigint, bytes: number): void {
  memcpy(target, source, bytes);
}

/** Keeps a library in memory until the process ends, even if its loader unloads it. */
export function keepLoaded(file: string): void {
  dlopen(file, RTLD_LAZY_NODELETE);
}

/** Returns freed memory that the C library retains to the system (glibc only). */
export function trimHeap(): void {
  trim?.(0);
}

/**
 * Moves memory that is wholly in RAM into huge pages (linux 6.1 and later).
 * @param address a multiple of the huge page's size, as is `bytes`
 * @returns whether the memory was in RAM and is in huge pages
 */
export function collapse(address: bigint, bytes: number): boolean {
  return linux && residentPages(address, bytes) === bytes / PAGE && madvise(address, bytes, MADV_COLLAPSE) === 0;
}

/** Number of pages of [address, address + bytes) in RAM; address and bytes are multiples of PAGE. */
export function residentPages(address: bigint, bytes: number): number {
  const pages = new Uint8Array(bytes / PAGE);
  if (mincore(address, bytes, pages) !== 0) return 0;
  return pages.reduce((count, page) => count + (page & 1), 0);
}

/** The memory at an address as an ArrayBuffer. The memory must outlive every view. */
export function viewMemory(address: bigint, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes);
}

const HUGE_PAGE_BYTES = 2 ** 21;

/** Collapses every whole huge page of private anonymous memory. @returns bytes in huge pages */
export function useHugePages(): number {
  let bytes = 0;
  for (const { start, end } of anonymous(readMaps()))
    for (let at = roundUp(start); at + BigInt(HUGE_PAGE_BYTES) <= end; at += BigInt(HUGE_PAGE_BYTES))
      if (collapse(at, HUGE_PAGE_BYTES)) bytes += HUGE_PAGE_BYTES;
  return bytes;
}

/**
 * Returns the pages of mapped files, of which reads take some rows, to the system's cache. Otherwise the process keeps
 * the pages around each row as well.
 * @param files real paths, whose mappings nothing writes
 */
export function releaseMapped(files: readonly string[]): void {
  const maps = readMaps();
  for (const file of files)
    for (const { start, end } of areas(maps, (line) => line.endsWith(` ${file}`))) {
      madvise(start, Number(end - start), MADV_RANDOM);
      madvise(start, Number(end - start), MADV_DONTNEED);
    }
}

interface Area {
  readonly start: bigint;
  readonly end: bigint;
}

/** Private, writable mappings without a file, from the text of /proc/self/maps. */
export function anonymous(maps: string): Area[] {
  return areas(maps, (line) => / rw-p [0-9a-f]+ 00:00 0 *(?:\[heap\])?$/.test(line));
}

function areas(maps: string, isWanted: (line: string) => boolean): Area[] {
  return maps.split('\n').flatMap((line) => {
    const [, start, end] = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line) ?? [];
    return start !== undefined && isWanted(line) ? [{ start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) }] : [];
  });
}

/** /proc/self/maps; empty on a system without it. */
function readMaps(): string {
  try {
    return readFileSync('/proc/self/maps', 'utf8');
  } catch {
    return '';
  }
}

function roundUp(address: bigint): bigint {
  const huge = BigInt(HUGE_PAGE_BYTES);
  return ((address + huge - 1n) / huge) * huge;
}
