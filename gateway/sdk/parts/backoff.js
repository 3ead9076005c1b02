// When to come again, and whether to.

const BASE_MS = 500;

// Closes that say that the other side and this one do not speak the same protocol: coming again changes nothing.
const PROTOCOL_FAULTS = new Set([1002, 1003, 1007, 1009, 1010]);

// Full jitter: anything from nothing to a bound that doubles, so that those who were cut together do not return together.
export function jitter(attempt, capMs) {
  return Math.random() * Math.min(capMs, BASE_MS * 2 ** Math.min(attempt, 20));
}

// HTTP statuses that say: not now.
const LATER_STATUSES = new Set([408, 425, 429]);

// Whether an ending says: do not come again. The ranges of the close codes carry the advice.
export function stops(ending) {
  const { status } = ending;
  if (status !== null) return status >= 400 && status < 500 && !LATER_STATUSES.has(status);
  return (ending.closeCode >= 4500 && ending.closeCode <= 4999) || PROTOCOL_FAULTS.has(ending.closeCode);
}

// How fast this connection may speak: as the gateway counts, so that a full queue after an outage is not a flood.
export class Pace {
  constructor(ratePerS, burst) {
    this.rate = ratePerS;
    this.burst = burst;
    this.level = burst;
    this.filledAt = performance.now();
  }

  // Takes `cost` units; 0 when they were there, else the milliseconds until they will be, and nothing is taken.
  take(cost) {
    if (this.rate <= 0) return 0;
    const now = performance.now();
    this.level = Math.min(this.burst, this.level + ((now - this.filledAt) * this.rate) / 1000);
    this.filledAt = now;
    if (this.level < cost) return Math.ceil(((cost - this.level) * 1000) / this.rate);
    this.level -= cost;
    return 0;
  }
}

// A promise of `work` that gives up after so many milliseconds.
export async function within(milliseconds, work, complaint) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(complaint)), milliseconds);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
