// @ts-check
// What charts compute: ticks, smoothing, bands, nearest points, decimation. No page is needed for any of it.

/** @typedef {ArrayLike<number>} Numbers */

/**
 * A value in four digits, as people read it; a dash if there is none.
 * @param {number | null | undefined} value
 */
export function digits(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? value.toExponential(2).replace(/\.?0+e/, "e") : String(+value.toPrecision(4));
}

/**
 * The place of the value nearest to another; -1 if there are none.
 * @param {Numbers} sorted
 * @param {number} value
 */
export function closest(sorted, value) {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low > 0 && value - sorted[low - 1] < sorted[low] - value ? low - 1 : Math.min(low, sorted.length - 1);
}

/**
 * The last value of a column at a place or before it; undefined if there is none.
 * @param {ArrayLike<number | null | undefined>} column
 * @param {number} place
 */
export function valueAt(column, place) {
  for (let at = Math.min(place, column.length - 1); at >= 0; at -= 1) {
    const value = column[at];
    if (value !== null && value !== undefined && !Number.isNaN(value)) return value;
  }
  return undefined;
}

/**
 * Ticks of a linear axis: multiples of 1, 2 or 5 times a power of ten inside the range.
 * @param {number} min
 * @param {number} max
 * @param {number} most how many, about
 */
export function ticks(min, max, most = 6) {
  if (!(max > min)) return [min];
  const rough = (max - min) / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((part) => part * power >= rough * (1 - 1e-9)) ?? 10);
  const found = [];
  for (let k = Math.ceil(min / step - 1e-9); k * step <= max + 1e-9 * step; k += 1) found.push(+(k * step).toPrecision(12));
  return found;
}

/**
 * Ticks of a logarithmic axis: powers of ten; on a narrower range 1, 2, 5 times these, then as on a linear axis.
 * @param {number} min
 * @param {number} max
 */
export function logTicks(min, max) {
  for (const steps of [[1], [1, 2, 5]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(min)); 10 ** power <= max; power += 1)
      for (const step of steps) {
        const tick = +(step * 10 ** power).toPrecision(3);
        if (tick >= min && tick <= max) found.push(tick);
      }
    if (found.length >= 3) return found.filter((_, k) => k % Math.ceil(found.length / 9) === 0);
  }
  return ticks(min, max, 8).filter((tick) => tick > 0);
}

/**
 * Exponential moving average; weights are normalised, so that the first values are not drawn to zero.
 * @param {Numbers} values where one is NaN, so is the average, and what follows does not count it
 * @param {number} weight of the past, from 0 to below 1
 */
export function smoothed(values, weight) {
  const out = new Float64Array(values.length);
  let [sum, weights] = [0, 0];
  for (let k = 0; k < values.length; k += 1) {
    [sum, weights] = [sum * weight, weights * weight];
    if (Number.isNaN(values[k])) {
      out[k] = NaN;
      continue;
    }
    sum += values[k];
    weights += 1;
    out[k] = sum / weights;
  }
  return out;
}

/**
 * Mean of several columns, and one standard deviation on either side of it.
 * @param {Numbers[]} members
 */
export function meanAndBand(members) {
  const length = members[0].length;
  const [mean, low, high] = [new Float64Array(length), new Float64Array(length), new Float64Array(length)];
  for (let k = 0; k < length; k += 1) {
    let [sum, squares] = [0, 0];
    for (const member of members) sum += member[k];
    mean[k] = sum / members.length;
    for (const member of members) squares += (member[k] - mean[k]) ** 2;
    const deviation = Math.sqrt(squares / (members.length - 1));
    [low[k], high[k]] = [mean[k] - deviation, mean[k] + deviation];
  }
  return { mean, low, high };
}

/**
 * Whether every x column is the beginning of the longest, so that they can share it.
 * @param {Numbers[]} columns
 */
export function sharedBeginning(columns) {
  const longest = columns.reduce((a, b) => (b.length > a.length ? b : a));
  return columns.every((column) => column === longest || Array.prototype.every.call(column, (x, k) => x === longest[k]));
}

/**
 * The nearest of some heights; null if none is near enough.
 * @template T
 * @param {{height: number, what: T}[]} heights
 * @param {number} pointer
 * @param {number} reach
 * @returns {T | null}
 */
export function nearest(heights, pointer, reach) {
  let [best, found] = [reach, /** @type {T | null} */ (null)];
  for (const { height, what } of heights) {
    const far = Math.abs(height - pointer);
    if (far < best) [best, found] = [far, what];
  }
  return found;
}

/**
 * Where a line has several points in a pixel's width: the first, the lowest, the highest and the last of them.
 * @param {[number, number][]} points in pixels, from left to right
 * @returns {[number, number][]}
 */
export function decimated(points) {
  /** @type {[number, number][]} */
  const kept = [];
  for (let from = 0; from < points.length; ) {
    let to = from;
    let [low, high] = [from, from];
    while (to + 1 < points.length && Math.floor(points[to + 1][0]) === Math.floor(points[from][0])) {
      to += 1;
      if (points[to][1] < points[low][1]) low = to;
      if (points[to][1] > points[high][1]) high = to;
    }
    for (const at of [...new Set([from, low, high, to])].sort((a, b) => a - b)) kept.push(points[at]);
    from = to + 1;
  }
  return kept;
}

/**
 * The range of an axis that holds values with some room; for a logarithmic axis, by a factor.
 * @param {number | null} low
 * @param {number | null} high
 * @param {boolean} log
 * @returns {[number, number]}
 */
export function roomy(low, high, log) {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return log ? [0.1, 1] : [0, 1];
  if (log) return [low / 1.1, high * 1.1];
  const room = high > low ? 0.06 * (high - low) : 0.1 * Math.abs(high) || 1;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

/**
 * Where the bars of a curve's values lie: [x, low, high] of those that have any.
 * @param {{x: Numbers, low?: Numbers, high?: Numbers}} curve
 * @param {boolean} log whether what is not positive has no place
 * @returns {[number, number, number][]}
 */
export function errorBars({ x, low, high }, log) {
  if (!low || !high) return [];
  /** @type {[number, number, number][]} */
  const found = [];
  for (let k = 0; k < x.length; k += 1)
    if (Number.isFinite(low[k]) && Number.isFinite(high[k]) && (!log || low[k] > 0)) found.push([x[k], low[k], high[k]]);
  return found;
}

/**
 * The place of the last value that is at most another; -1 if there is none.
 * @param {Numbers} sorted
 * @param {number} value
 */
export function lastAt(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/**
 * The height of a line at x; that of its ends beside them.
 * @param {Numbers} xs that rise
 * @param {Numbers} ys
 * @param {number} x
 */
export function heightAt(xs, ys, x) {
  const k = lastAt(xs, x);
  if (k < 0) return ys[0];
  if (k + 1 >= xs.length) return ys[xs.length - 1];
  return ys[k] + ((ys[k + 1] - ys[k]) * (x - xs[k])) / (xs[k + 1] - xs[k]);
}
