// One panel of a landscape on a canvas, seen from above: contours, axes, colour bar. `pen` is its 2-D context, `scale` as
// `scaleOf` makes it; follows scales.js.

const LINES = 12; // contour lines
const PIXELS = 600_000; // of a picture at most: a larger one is drawn in coarser ones

const rgb = (place) => `rgb(${viridis(place).join(",")})`;
const toCube = (value, [from, to]) => (2 * (value - from)) / (to - from) - 1;

/** The colours and contours of what of a panel is seen through a lens {x, y: centre, size}, in shares of its axes. */
function flatPicture(panel, scale, value, box, dpr, lens) {
  const { nx, ny } = panel;
  const places = Float64Array.from(panel[value], scale.place);
  const sharp = Math.min(dpr, Math.sqrt(PIXELS / (box.width * box.height)));
  const [width, height] = [Math.round(box.width * sharp), Math.round(box.height * sharp)];
  const [left, low] = [lens.x - lens.size / 2, lens.y - lens.size / 2];
  const image = new ImageData(width, height);
  const table = Array.from({ length: 1025 }, (_, k) => viridis(k / 1024));
  for (let row = 0; row < height; row++) {
    const y = (low + lens.size * (1 - (row + 0.5) / height)) * (ny - 1);
    const j = Math.min(Math.floor(y), ny - 2);
    for (let column = 0; column < width; column++) {
      const x = (left + (lens.size * (column + 0.5)) / width) * (nx - 1);
      const i = Math.min(Math.floor(x), nx - 2);
      const [u, v, at] = [x - i, y - j, j * nx + i];
      let place =
        (1 - v) * ((1 - u) * places[at] + u * places[at + 1]) + v * ((1 - u) * places[at + nx] + u * places[at + nx + 1]);
      if (Number.isNaN(place)) place = places[Math.round(y) * nx + Math.round(x)];
      const [r, g, b] = Number.isNaN(place) ? GREY : table[Math.round(place * 1024)];
      const from = 4 * (row * width + column);
      [image.data[from], image.data[from + 1], image.data[from + 2], image.data[from + 3]] = [r, g, b, 255];
    }
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.putImageData(image, 0, 0);
  const smooth = finer(places, nx, ny, Math.max(1, Math.round(60 / Math.max(nx, ny))));
  const toX = (x) => ((x / (smooth.nx - 1) - left) / lens.size) * width;
  const toY = (y) => (1 - (y / (smooth.ny - 1) - low) / lens.size) * height;
  pen.strokeStyle = "rgba(255,255,255,0.45)";
  pen.lineWidth = 0.8 * sharp;
  pen.beginPath();
  for (let line = 1; line < LINES; line++) {
    for (const [x0, y0, x1, y1] of contour(smooth.values, smooth.nx, smooth.ny, line / LINES)) {
      pen.moveTo(toX(x0), toY(y0));
      pen.lineTo(toX(x1), toY(y1));
    }
  }
  pen.stroke();
  return canvas;
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
  for (const tick of ticks(scale, Math.max(4, height / 45))) {
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
  const [across, up] = [box.fromX, box.fromY];
  for (const tick of ticks({ low: across(box.left), high: across(box.left + box.width) }, box.width / 60)) {
    const x = box.toX(tick);
    pen.fillRect(x - 0.4, box.top + box.height, 0.8, 3);
    pen.fillText(words(tick, 3), x, box.top + box.height + 5);
  }
  pen.fillText(panel.axes[0], box.left + box.width / 2, box.top + box.height + 19, box.width + 40);
  [pen.textAlign, pen.textBaseline] = ["right", "middle"];
  for (const tick of ticks({ low: up(box.top + box.height), high: up(box.top) }, box.height / 50)) {
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
