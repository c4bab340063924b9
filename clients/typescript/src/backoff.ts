// Waits between attempts.

const FIRST_MS = 250;
const LONGEST_MS = 5_000;

/** Return how long to wait after so many failures in a row: doubling, and never the same twice. */
export function backoff(failures: number, firstMs: number = FIRST_MS): number {
  const longest = Math.min(LONGEST_MS, firstMs * 2 ** Math.min(failures - 1, 10));
  return longest * (0.5 + Math.random() / 2);
}

/** Wait; an aborted signal ends it with the signal's reason. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
