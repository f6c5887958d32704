// What a landscape needs to know before it can be drawn: colours, scales, grids, contours, projection. Pure functions.

// Matplotlib's viridis at 33 equally spaced places, linear in between.
const STOPS = [
  [68, 1, 84], [71, 13, 96], [72, 24, 106], [72, 35, 116], [71, 45, 123], [69, 55, 129], [66, 64, 134], [62, 73, 137],
  [59, 82, 139], [55, 91, 141], [51, 99, 141], [47, 107, 142], [44, 114, 142], [41, 122, 142], [38, 130, 142],
  [35, 137, 142], [33, 145, 140], [31, 152, 139], [31, 160, 136], [34, 167, 133], [40, 174, 128], [50, 182, 122],
  [63, 188, 115], [78, 195, 107], [94, 201, 98], [112, 207, 87], [132, 212, 75], [152, 216, 62], [173, 220, 48],
  [194, 223, 35], [216, 226, 25], [236, 229, 27], [253, 231, 37],
];
const GREY = [150, 150, 150];

/** The colour [r, g, b] of a place between 0 and 1 on the scale; grey for NaN. */
export function viridis(place) {
  if (!Number.isFinite(place)) return GREY;
  const at = Math.min(Math.max(place, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((part, k) => Math.round(part + (STOPS[low + 1][k] - part) * (at - low)));
}

/** The scale of several arrays of values; what is not finite (or, on a log scale, not positive) does not count. */
export function scaleOf(arrays, log) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of arrays) {
    for (const value of values) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const empty = low > high;
  if (empty) [low, high] = [0.1, 1];
  if (low === high) high = low + 1e-6 * (Math.abs(low) || 1);
  const [turn, back] = log ? [Math.log10, (x) => 10 ** x] : [(x) => x, (x) => x];
  const [from, to] = [turn(low), turn(high)];
  return {
    low, high, log, empty,
    place: (value) =>
      Number.isFinite(value) ? Math.min(Math.max((turn(Math.max(value, low)) - from) / (to - from), 0), 1) : NaN,
    value: (place) => back(from + place * (to - from)),
  };
}

/** Round numbers on a scale {low, high, log}, about `count` of them. */
export function ticks({ low, high, log }, count = 5) {
  if (log) {
    let round = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      for (const digit of [1, 2, 5]) round.push(Number(`${digit}e${power}`));
    }
    round = round.filter((tick) => tick >= low && tick <= high);
    const tens = round.filter((tick) => Number.isInteger(Math.round(1e6 * Math.log10(tick)) / 1e6));
    if (round.length > 1.6 * count) return tens.filter((_, k) => k % Math.ceil(tens.length / count) === 0);
    if (round.length >= 3) return round;
  }
  const rough = (high - low) / count;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 2.5, 5, 10].find((factor) => factor * ten >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-6); k * step <= high + 1e-6 * step; k++) {
    found.push(Number((k * step).toPrecision(10)));
  }
  return found;
}

/** A number as a person reads it. */
export function words(value, digits = 4) {
  if (value === null || !Number.isFinite(value)) return "no finite value";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-4)) return value.toExponential(2);
  return String(Number(value.toPrecision(digits)));
}

/** A grid `[ny, nx]` with `factor` times as many steps, linear in between; NaN beside NaN. */
export function finer(grid, nx, ny, factor) {
  const [width, height] = [(nx - 1) * factor + 1, (ny - 1) * factor + 1];
  const values = new Float64Array(width * height);
  for (let row = 0; row < height; row++) {
    const j = Math.min(Math.floor(row / factor), Math.max(ny - 2, 0));
    const v = row / factor - j;
    for (let column = 0; column < width; column++) {
      const i = Math.min(Math.floor(column / factor), Math.max(nx - 2, 0));
      const u = column / factor - i;
      let sum = 0;
      for (const [di, dj, weight] of [[0, 0, (1 - u) * (1 - v)], [1, 0, u * (1 - v)], [0, 1, (1 - u) * v], [1, 1, u * v]]) {
        if (weight > 0) sum += weight * grid[(j + dj) * nx + i + di];
      }
      values[row * width + column] = sum;
    }
  }
  return { values, nx: width, ny: height };
}

/** Where a grid `[ny, nx]` has the value `level`: pieces [x0, y0, x1, y1] in steps of the grid (marching squares). */
export function contour(grid, nx, ny, level) {
  const pieces = [];
  for (let j = 0; j + 1 < ny; j++) {
    for (let i = 0; i + 1 < nx; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      const values = corners.map(([x, y]) => grid[y * nx + x]);
      const points = [];
      for (let k = 0; k < 4; k++) {
        const [here, there] = [values[k], values[(k + 1) % 4]];
        if (here < level === there < level) continue;
        const share = (level - here) / (there - here);
        points.push(corners[k].map((from, axis) => from + share * (corners[(k + 1) % 4][axis] - from)));
      }
      if (values.some(Number.isNaN) || points.length < 2) continue;
      const centre = values.reduce((sum, value) => sum + value, 0) / 4;
      // On a saddle the lines cut off the two corners that lie on the other side than the centre.
      const pairs = points.length === 2 ? [[0, 1]] : centre < level === values[0] < level ? [[0, 1], [2, 3]] : [[3, 0], [1, 2]];
      for (const [from, to] of pairs) pieces.push([...points[from], ...points[to]]);
    }
  }
  return pieces;
}

/** From a point of the cube to [right, down, nearness], seen from an azimuth and elevation in degrees. */
export function seenFrom([azimuth, elevation]) {
  const [ca, sa] = [Math.cos((azimuth * Math.PI) / 180), Math.sin((azimuth * Math.PI) / 180)];
  const [ce, se] = [Math.cos((elevation * Math.PI) / 180), Math.sin((elevation * Math.PI) / 180)];
  return (x, y, z) => {
    const ahead = x * ca + y * sa;
    return [y * ca - x * sa, ahead * se - z * ce, ahead * ce + z * se];
  };
}

/** The box of a plot within its margins: both axes have one unit, unless one is much longer than the other. */
export function fit(x, y, width, height) {
  const shape = Math.min(Math.max((y[1] - y[0]) / (x[1] - x[0]), 0.4), 2.5);
  const wide = Math.min(width, height / shape);
  return { width: wide, height: wide * shape };
}

/** A lens {x, y: centre, size} on an axis of length 1, magnified about a point of it; it never leaves the picture. */
export function magnified({ x, y, size }, factor, [atX, atY] = [x, y]) {
  const now = Math.min(Math.max(size * factor, 0.04), 1);
  const kept = (centre, at) => Math.min(Math.max(at + ((centre - at) * now) / size, now / 2), 1 - now / 2);
  return { x: kept(x, atX), y: kept(y, atY), size: now };
}

/** Columns, and width and height of each picture, so that `count` of them are as large as they can be in a place. */
export function arranged(count, width, height, gap = 10) {
  let best = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(count, 1); columns++) {
    const rows = Math.ceil(Math.max(count, 1) / columns);
    const high = Math.max((height - gap * (rows - 1)) / rows, 240);
    const wide = Math.min((width - gap * (columns - 1)) / columns, 1.4 * high);
    if (Math.min(wide, high) > Math.min(best.width, best.height) + 1) best = { columns, width: wide, height: high };
  }
  return { ...best, width: Math.floor(Math.max(best.width, 220)), height: Math.floor(best.height) };
}

/** Index of the step of an axis [from, to] with `count` points that is nearest to a coordinate; null outside. */
export function nearest(coordinate, [from, to], count) {
  if (count < 2) return 0;
  const step = Math.round(((coordinate - from) / (to - from)) * (count - 1));
  return step >= 0 && step < count ? step : null;
}

/** A step's coordinate; 0 is exact, as it is where it was measured. */
export function coordinate(step, [from, to], count) {
  const found = count < 2 ? from : from + ((to - from) * step) / (count - 1);
  return Math.abs(found) < 1e-9 * Math.abs(to - from) ? 0 : found;
}
