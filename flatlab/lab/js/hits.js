// @ts-check
// Which mark lies below the pointer, and the order in which the keyboard goes through clients. No page is needed.

/** @typedef {{client: ArrayLike<number>, x: ArrayLike<number>, y: ArrayLike<number>, wide?: ArrayLike<number>, high?: ArrayLike<number>}} Marks */

/**
 * The place of the mark below a point: the box that holds it, or the nearest dot within reach; -1: none.
 * @param {Marks} marks
 * @param {number} x
 * @param {number} y
 * @param {[number, number]} reach of dots, in the units of the axes
 */
export function under(marks, x, y, reach) {
  const { wide, high } = marks;
  let [best, found] = [1, -1];
  for (let k = marks.client.length - 1; k >= 0; k -= 1) {
    const [dx, dy] = [Math.abs(x - marks.x[k]), Math.abs(y - marks.y[k])];
    if (wide && high) {
      if (dx <= wide[k] / 2 && dy <= high[k] / 2) return k;
      continue;
    }
    const far = Math.hypot(dx / reach[0], dy / reach[1]);
    if (far < best) [best, found] = [far, k];
  }
  return found;
}

/**
 * The places of what is of a round, or of the latest one before it; of the last of all, if none is named.
 * @param {ArrayLike<number>} rounds
 * @param {number | null} at
 * @returns {number[]}
 */
export function ofRound(rounds, at) {
  let latest = -Infinity;
  for (let k = 0; k < rounds.length; k += 1) if (rounds[k] > latest && (at === null || rounds[k] <= at)) latest = rounds[k];
  const found = [];
  for (let k = 0; k < rounds.length; k += 1) if (rounds[k] === latest) found.push(k);
  return found;
}

/**
 * The client beside another, in the order of their numbers, round and round.
 * @param {ArrayLike<number>} clients
 * @param {number | null} now
 * @param {number} step 1 or -1
 */
export function beside(clients, now, step) {
  const every = [...new Set(Array.from(clients))].sort((a, b) => a - b);
  if (!every.length) return null;
  const at = now === null ? -1 : every.indexOf(now);
  return every[(at < 0 ? (step > 0 ? 0 : every.length - 1) : at + step + every.length) % every.length];
}

/**
 * Where axes begin and end: as declared, else what the marks take with some room.
 * @param {ArrayLike<number>} centres
 * @param {ArrayLike<number> | undefined} sizes
 * @param {[number, number] | null} limits
 * @returns {[number, number]}
 */
export function ends(centres, sizes, limits) {
  if (limits) return limits;
  let [low, high] = [Infinity, -Infinity];
  for (let k = 0; k < centres.length; k += 1) {
    const half = sizes ? sizes[k] / 2 : 0;
    [low, high] = [Math.min(low, centres[k] - half), Math.max(high, centres[k] + half)];
  }
  if (low > high) return [0, 1];
  const room = sizes ? 0 : 0.05 * (high - low || 1);
  return [low - room, high + room || 1];
}
