// One panel of a landscape in perspective: tiles in the light, the floor's axes and the height's. Follows plane.js.

const LIGHT = [-0.42, 0.3, 0.857]; // where it comes from: right, towards the eye, up; of length 1
const HEIGHT = 1.2; // of the cube, whose floor is 2 wide

/** How bright a tile is that rises by `slope` [along x, along y] on the cube; the light turns with the camera. */
export function brightness([dx, dy], azimuth) {
  const [c, s] = [Math.cos((azimuth * Math.PI) / 180), Math.sin((azimuth * Math.PI) / 180)];
  const [right, near, up] = LIGHT;
  const facing = (-dx * (near * c - right * s) - dy * (near * s + right * c) + up) / Math.hypot(dx, dy, 1);
  return 0.6 + 0.47 * Math.max(facing, 0);
}

function tilesOf(panel, scale, value, look, azimuth) {
  const { nx, ny } = panel;
  const stride = Math.max(1, Math.round(Math.max(nx, ny) / 50)); // a large grid is drawn in coarser pieces
  const [columns, rows] = [nx, ny].map((count) => {
    const kept = [];
    for (let k = 0; k < count - 1; k += stride) kept.push(k);
    return [...kept, count - 1];
  });
  const places = rows.flatMap((row) => columns.map((column) => scale.place(panel[value][row * nx + column])));
  const factor = Math.max(1, Math.round(40 / Math.max(columns.length, rows.length)));
  const grid = finer(places, columns.length, rows.length, factor);
  const across = finer([...columns, ...columns], columns.length, 2, factor).values;
  const along = finer([...rows, ...rows], rows.length, 2, factor).values;
  const tiles = [];
  for (let j = 0; j + 1 < grid.ny; j++) {
    for (let i = 0; i + 1 < grid.nx; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      const heights = corners.map(([x, y]) => grid.values[y * grid.nx + x]);
      const missing = heights.some(Number.isNaN);
      const spots = corners.map(([x, y]) => [(2 * across[x]) / (nx - 1) - 1, (2 * along[y]) / (ny - 1) - 1]);
      const points = spots.map(([x, y], k) => look(x, y, missing ? 0 : heights[k]));
      const rise = (a, b) => (HEIGHT / 2) * (heights[a[1]] + heights[b[1]] - heights[a[0]] - heights[b[0]]);
      const slope = [rise([0, 1], [3, 2]) / (spots[1][0] - spots[0][0]), rise([0, 3], [1, 2]) / (spots[3][1] - spots[0][1])];
      const mean = (heights[0] + heights[1] + heights[2] + heights[3]) / 4;
      const near = missing ? -Infinity : points.reduce((sum, point) => sum + point[2], 0);
      const edges = [j % factor === 0, (i + 1) % factor === 0, (j + 1) % factor === 0, i % factor === 0];
      tiles.push({ points, near, edges, place: missing ? NaN : mean, bright: missing ? 1 : brightness(slope, azimuth) });
    }
  }
  return tiles.sort((one, other) => one.near - other.near);
}

function drawSurface(pen, panel, scale, value, look, azimuth) {
  for (const { points, place, edges, bright } of tilesOf(panel, scale, value, look, azimuth)) {
    pen.fillStyle = pen.strokeStyle = `rgb(${viridis(place).map((part) => Math.min(255, Math.round(bright * part))).join(",")})`;
    pen.lineWidth = 0.6;
    pen.beginPath();
    points.forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath();
    pen.fill();
    pen.stroke(); // closes the seams
    pen.strokeStyle = "rgba(0,0,0,0.22)";
    pen.lineWidth = 0.5;
    pen.beginPath();
    edges.forEach((edge, k) => {
      if (!edge) return;
      pen.moveTo(...points[k].slice(0, 2));
      pen.lineTo(...points[(k + 1) % 4].slice(0, 2));
    });
    pen.stroke();
  }
}

function drawFloor(pen, panel, look, ink, room, floor) {
  const corners = [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => look(x, y, 0));
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 0.7;
  pen.beginPath();
  corners.forEach(([x, y]) => pen.lineTo(x, y));
  pen.closePath();
  pen.stroke();
  // Each axis is numbered along whichever of its two edges is nearer; the names stand below, out of the surface's way.
  const edges = [0, 1].map((axis) => {
    const at = (along, side) => (axis === 0 ? look(along, side, 0) : look(side, along, 0));
    const side = at(0, 1)[2] > at(0, -1)[2] ? 1 : -1;
    return { axis, ends: [at(-1, 1.1 * side), at(1, 1.1 * side)], middle: at(0, side)[0] };
  });
  pen.textBaseline = "top";
  edges.sort((one, other) => one.middle - other.middle).forEach(({ axis, ends }, right) => {
    pen.textAlign = right ? "left" : "right";
    [panel.x, panel.y][axis].forEach((end, k) => {
      const text = words(end, 3);
      const wide = pen.measureText(text).width;
      pen.fillText(text, right ? Math.min(ends[k][0], room + 4 - wide) : Math.max(ends[k][0], wide), ends[k][1]);
    });
    pen.textAlign = right ? "right" : "left";
    pen.fillText(panel.axes[axis].replace("principal ", ""), right ? room : 2, floor, room / 2 - 6);
  });
}

/** The axis of the heights, at the corner of the floor that is leftmost, so that the surface does not hide it. */
function drawHeight(pen, scale, value, look, ink) {
  if (scale.empty) return;
  const [x, y] = [[-1, -1], [1, -1], [1, 1], [-1, 1]].reduce((best, spot) => (look(...spot, 0)[0] < look(...best, 0)[0] ? spot : best));
  const at = (place) => look(1.04 * x, 1.04 * y, place);
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 0.9;
  pen.beginPath();
  pen.moveTo(...at(0).slice(0, 2));
  pen.lineTo(...at(1).slice(0, 2));
  pen.stroke();
  [pen.textAlign, pen.textBaseline] = ["right", "middle"];
  for (const tick of ticks(scale, 4)) {
    const [right, down] = at(scale.place(tick));
    pen.fillRect(right - 4, down - 0.4, 4, 0.8);
    pen.fillText(words(tick, 3), right - 6, down);
  }
  const [right, down] = at(1);
  pen.fillText(value, right + 8, down - 14);
}
