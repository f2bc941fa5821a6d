/** The machine-wide monotonic clock in milliseconds: gateway and engine process read the same instants from it. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
