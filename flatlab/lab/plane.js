// One panel of a landscape on a canvas: contours or a surface, axes, colour bar, shapes of marks. `pen` is its 2-D
// context, `scale` as `scaleOf` makes it; follows scales.js.

const LINES = 12; // contour lines

const rgb = (place) => `rgb(${viridis(place).join(",")})`;
const toCube = (value, [from, to]) => (2 * (value - from)) / (to - from) - 1;

function flatPicture(panel, scale, value, box, dpr) {
  const { nx, ny } = panel;
  const places = Float64Array.from(panel[value], scale.place);
  const [width, height] = [Math.round(box.width * dpr), Math.round(box.height * dpr)];
  const image = new ImageData(width, height);
  const table = Array.from({ length: 1025 }, (_, k) => viridis(k / 1024));
  for (let row = 0; row < height; row++) {
    const y = (1 - (row + 0.5) / height) * (ny - 1);
    const j = Math.min(Math.floor(y), ny - 2);
    for (let column = 0; column < width; column++) {
      const x = ((column + 0.5) / width) * (nx - 1);
      const i = Math.min(Math.floor(x), nx - 2);
      const [u, v, at] = [x - i, y - j, j * nx + i];
      let place =
        (1 - v) * ((1 - u) * places[at] + u * places[at + 1]) + v * ((1 - u) * places[at + nx] + u * places[at + nx + 1]);
      if (Number.isNaN(place)) place = places[Math.round(y) * nx + Math.round(x)];
      const [r, g, b] = Number.isNaN(place) ? GREY : table[Math.round(place * 1024)];
      image.data.set([r, g, b, 255], 4 * (row * width + column));
    }
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.putImageData(image, 0, 0);
  const smooth = finer(places, nx, ny, Math.max(1, Math.round(60 / Math.max(nx, ny))));
  const [sx, sy] = [width / (smooth.nx - 1), height / (smooth.ny - 1)];
  pen.strokeStyle = "rgba(255,255,255,0.45)";
  pen.lineWidth = 0.8 * dpr;
  pen.beginPath();
  for (let line = 1; line < LINES; line++) {
    for (const [x0, y0, x1, y1] of contour(smooth.values, smooth.nx, smooth.ny, line / LINES)) {
      pen.moveTo(x0 * sx, height - y0 * sy);
      pen.lineTo(x1 * sx, height - y1 * sy);
    }
  }
  pen.stroke();
  return canvas;
}

function drawSurface(pen, panel, scale, value, look) {
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
      const points = corners.map(([x, y], k) =>
        look((2 * across[x]) / (nx - 1) - 1, (2 * along[y]) / (ny - 1) - 1, missing ? 0 : heights[k]),
      );
      const place = missing ? NaN : (heights[0] + heights[1] + heights[2] + heights[3]) / 4;
      const near = missing ? -Infinity : points.reduce((sum, point) => sum + point[2], 0);
      tiles.push({ points, place, near, edges: [j % factor === 0, (i + 1) % factor === 0, (j + 1) % factor === 0, i % factor === 0] });
    }
  }
  tiles.sort((one, other) => one.near - other.near);
  for (const { points, place, edges } of tiles) {
    pen.fillStyle = pen.strokeStyle = rgb(place);
    pen.lineWidth = 0.6;
    pen.beginPath();
    points.forEach(([x, y]) => pen.lineTo(x, y));
    pen.closePath();
    pen.fill();
    pen.stroke(); // closes the seams
    pen.strokeStyle = "rgba(0,0,0,0.3)";
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

function drawBar(pen, scale, value, ink, left, top, height) {
  if (scale.empty) return;
  for (let row = 0; row < height; row++) {
    pen.fillStyle = rgb(1 - row / (height - 1));
    pen.fillRect(left, top + row, 11, 1.5);
  }
  pen.fillStyle = pen.strokeStyle = ink;
  pen.lineWidth = 0.7;
  pen.strokeRect(left, top, 11, height);
  [pen.textAlign, pen.textBaseline] = ["left", "middle"];
  for (const tick of ticks(scale, 6)) {
    const y = top + height * (1 - scale.place(tick));
    pen.fillRect(left + 11, y - 0.4, 3, 0.8);
    pen.fillText(words(tick, 3), left + 16, y);
  }
  pen.textBaseline = "alphabetic";
  pen.fillText(value, left - 2, top - 9);
}

function drawAxes(pen, panel, box, ink) {
  pen.fillStyle = pen.strokeStyle = ink;
  pen.lineWidth = 0.7;
  pen.strokeRect(box.left, box.top, box.width, box.height);
  [pen.textAlign, pen.textBaseline] = ["center", "top"];
  for (const tick of ticks({ low: panel.x[0], high: panel.x[1] }, 4)) {
    const x = box.toX(tick);
    pen.fillRect(x - 0.4, box.top + box.height, 0.8, 3);
    pen.fillText(words(tick, 3), x, box.top + box.height + 5);
  }
  pen.fillText(panel.axes[0], box.left + box.width / 2, box.top + box.height + 19, box.width + 40);
  [pen.textAlign, pen.textBaseline] = ["right", "middle"];
  for (const tick of ticks({ low: panel.y[0], high: panel.y[1] }, 4)) {
    const y = box.toY(tick);
    pen.fillRect(box.left - 3, y - 0.4, 3, 0.8);
    pen.fillText(words(tick, 3), box.left - 5, y);
  }
  pen.save();
  pen.translate(box.left - 45, box.top + box.height / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(panel.axes[1], 0, 0, box.height + 20);
  pen.restore();
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

function drawShape(pen, series, x, y, fill) {
  const size = series === "models" ? 8 : 4;
  pen.fillStyle = fill;
  pen.strokeStyle = "#fff";
  pen.lineWidth = 2.4;
  pen.beginPath();
  if (series === "models") {
    for (let k = 0; k < 10; k++) {
      const [angle, reach] = [(k * Math.PI) / 5 - Math.PI / 2, k % 2 ? 0.45 * size : size];
      pen.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
    }
  } else if (series === "clients") {
    [[0, -5], [4.5, 3.5], [-4.5, 3.5]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
  } else if (series === "markers") {
    [[0, -5], [5, 0], [0, 5], [-5, 0]].forEach(([dx, dy]) => pen.lineTo(x + dx, y + dy));
  } else {
    pen.arc(x, y, size, 0, 7);
  }
  pen.closePath();
  pen.stroke();
  pen.fill();
  pen.strokeStyle = "rgba(0,0,0,0.75)"; // seen on any colour: dark line within a light one
  pen.lineWidth = 0.8;
  pen.stroke();
}

/** The way a mark lies on: several runs may share a plane. */
const wayOf = (mark) => (mark.series === "trajectory" ? mark.name.split(", ").slice(0, -1).join(", ") : null);
