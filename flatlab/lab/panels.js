// One panel of a landscape: its plane or surface, the marks and the crosshair on it, and what is said of it in words.
// `scene` is the `Scene` of landscape.js; plane.js, surface.js and marks.js draw the parts.

/** All of a panel, in its size. */
function drawPanel(scene, panel, value, shown, ink) {
  const { canvas, scale, size: { width, height } } = panel;
  const dpr = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * dpr), Math.round(height * dpr)];
  if (canvas.width !== wide || canvas.height !== high) {
    [canvas.width, canvas.height] = [wide, high];
    [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(dpr, 0, 0, dpr, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, sans-serif";
  const flat = scene.model.get("mode") === "2d";
  const place = flat ? drawPlane(scene, pen, panel, value, ink, dpr) : drawSolid(scene, pen, panel, value, ink); // to pixels
  drawBar(pen, scale, value, ink, width - 54, 22, height - 58);
  panel.spots = seenMarks(panel.marks, scene.at)
    .filter((mark) => shown.includes(mark.series))
    .map((mark) => ({ mark, at: place(mark.x, mark.y, mark[value]) }))
    .filter(({ at }) => at.every(Number.isFinite));
  const { box } = panel;
  const frame = flat ? [box.left, box.top, box.left + box.width, box.top + box.height] : [0, 0, width - 60, height];
  pen.save();
  pen.beginPath();
  pen.rect(frame[0], frame[1], frame[2] - frame[0], frame[3] - frame[1]);
  pen.clip();
  drawMarks(pen, panel.spots, scale, value, scene.marked, frame, scene.at);
  drawCursor(scene, pen, panel, place, value);
  pen.restore();
}

/** Contours from above; gives what takes coordinates to pixels. */
function drawPlane(scene, pen, panel, value, ink, dpr) {
  const { scale, size: { width, height } } = panel;
  const room = { width: width - 118, height: height - 58 };
  const { lens } = scene;
  const inner = fit(panel.x, panel.y, room.width, room.height);
  const box = { ...inner, left: 52 + (room.width - inner.width) / 2, top: 22 };
  const [left, low] = [lens.x - lens.size / 2, lens.y - lens.size / 2];
  const [wide, high] = [panel.x[1] - panel.x[0], panel.y[1] - panel.y[0]];
  box.toX = (x) => box.left + ((scene.shareX(x, panel) - left) / lens.size) * box.width;
  box.toY = (y) => box.top + (1 - (scene.shareY(y, panel) - low) / lens.size) * box.height;
  box.fromX = (x) => panel.x[0] + (left + ((x - box.left) / box.width) * lens.size) * wide;
  box.fromY = (y) => panel.y[0] + (low + (1 - (y - box.top) / box.height) * lens.size) * high;
  panel.box = box;
  const key = [value, scale.low, scale.high, scale.log, box.width, box.height, dpr, ...Object.values(lens)].join();
  if (panel.key !== key) [panel.key, panel.picture] = [key, flatPicture(panel, scale, value, box, dpr, lens)];
  pen.drawImage(panel.picture, box.left, box.top, box.width, box.height);
  drawAxes(pen, panel, box, ink);
  return (x, y) => [box.toX(x), box.toY(y)];
}

/** The surface in perspective; gives what takes coordinates and a value to pixels. */
function drawSolid(scene, pen, panel, value, ink) {
  const { scale, size: { width, height } } = panel;
  const seen = seenFrom(scene.camera);
  const reach = (0.3 * Math.min(width - 90, 1.02 * (height - 10))) / scene.lens.size;
  panel.look = (x, y, z) => {
    const [right, down, near] = seen(x, y, HEIGHT * (z - 0.5));
    return [(width - 42) / 2 + reach * right, height / 2 - 8 + reach * down, near];
  };
  pen.save();
  pen.beginPath();
  pen.rect(0, 0, width - 60, height); // magnified, it would cover the colour bar
  pen.clip();
  drawFloor(pen, panel, panel.look, ink, width - 62, height - 16);
  drawSurface(pen, panel, scale, value, panel.look, scene.camera[0]);
  drawHeight(pen, scale, value, panel.look, ink);
  pen.restore();
  return (x, y, z) => panel.look(toCube(x, panel.x), toCube(y, panel.y), scale.place(z));
}

/** The centre and the crosshair. */
function drawCursor(scene, pen, panel, place, value) {
  const here = nodeAt(panel, [0, 0]);
  const cross = (x, y, reach, colour, thick) => {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.beginPath();
    pen.moveTo(x - reach, y);
    pen.lineTo(x + reach, y);
    pen.moveTo(x, y - reach);
    pen.lineTo(x, y + reach);
    pen.stroke();
  };
  if (here) {
    const [x, y] = place(0, 0, panel[value][here.at]);
    cross(x, y, 6, "#000", 3);
    cross(x, y, 6, "#fff", 1.4);
  }
  const spot = scene.cursor.length ? nodeAt(panel, scene.cursor) : null;
  if (!spot) return;
  const height = panel[value][spot.at];
  const [x, y] = place(spot.x, spot.y, Number.isFinite(height) ? height : panel.scale.low);
  if (scene.model.get("mode") === "2d") {
    pen.setLineDash([4, 3]);
    cross(x, y, 4000, "rgba(0,0,0,0.55)", 2);
    cross(x, y, 4000, "#fff", 1);
    pen.setLineDash([]);
  }
  pen.beginPath();
  pen.arc(x, y, 4, 0, 7);
  pen.fillStyle = "#D55E00";
  pen.strokeStyle = "#fff";
  pen.lineWidth = 1.5;
  pen.fill();
  pen.stroke();
}

/** The point of the grid that is nearest to a place; null beside the panel. */
function nodeAt(panel, [x, y]) {
  const [i, j] = [nearest(x, panel.x, panel.nx), nearest(y, panel.y, panel.ny)];
  if (i === null || j === null) return null;
  return { x: coordinate(i, panel.x, panel.nx), y: coordinate(j, panel.y, panel.ny), at: j * panel.nx + i };
}

/** The value at the crosshair, or at the centre. */
function said(scene, panel, value) {
  const spot = nodeAt(panel, scene.cursor.length ? scene.cursor : [0, 0]);
  if (!spot) return "outside this panel";
  const where = scene.cursor.length ? `at (${words(spot.x, 3)}, ${words(spot.y, 3)})` : "at the centre";
  return `${value} ${words(panel[value][spot.at])} ${where}`;
}

/** What the mark below the pointer has here. */
function saidOfMark(scene, panel, value) {
  const { marked } = scene;
  const mark = marked && panel.marks.find((other) => other.name === marked.name && other.series === marked.series);
  if (!mark) return toldOfRound(panel.marks, scene.at, (now) => `${value} ${words(now[value])}`);
  const off = mark.residual > 1e-3 ? `, ${words(mark.residual, 3)} off the plane` : "";
  return `${mark.name}: own ${value} ${words(mark[value])}${off}`;
}
