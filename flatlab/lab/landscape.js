// Loss landscapes side by side, as contours or as surfaces: the widget. All panels share the crosshair, the camera and, by
// choice, the colour scale. Canvas 2D only: no library, nothing fetched. Names come from users: they only ever become text.
// Follows scales.js and plane.js, which `LandscapeView` puts before it.

const SERIES = ["models", "trajectory", "clients", "markers"];
const WIDTH = 350;
const HEIGHT = 302;

function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function unpack(model) {
  const view = model.get("grids");
  const numbers = new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  let at = 0;
  return model.get("panels").map((panel) => {
    const size = panel.nx * panel.ny;
    const [loss, accuracy] = [numbers.subarray(at, at + size), numbers.subarray(at + size, at + 2 * size)];
    at += 2 * size;
    return { ...panel, loss, accuracy };
  });
}

function render({ model, el }) {
  const root = element("div", "flatlab-landscape", el);
  const bar = element("div", "flatlab-bar", root);
  const row = element("div", "flatlab-row", root);
  const caption = element("div", "flatlab-caption", root);
  let panels = [];
  let camera = model.get("camera");
  let cursor = model.get("cursor"); // [x, y] or []
  let marked = null; // {series, name} of the mark below the pointer
  let waiting = 0;
  let outdated = false; // whether the panels of the model are newer than those built

  const set = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const toggles = [
    ["3-D", "Surfaces in perspective; drag or use the arrow keys to rotate all panels", () => model.get("mode") === "3d",
      (on) => set("mode", on ? "3d" : "2d")],
    ["log", "Logarithmic scale", () => model.get("log"), (on) => set("log", on)],
    ["shared scale", "One colour scale for all panels", () => model.get("shared"), (on) => set("shared", on)],
    ["accuracy", "Accuracy instead of loss", () => model.get("value") === "accuracy",
      (on) => set("value", on ? "accuracy" : "loss")],
  ].map(([label, title, pressed, change]) => {
    const button = element("button", "flatlab-toggle", bar, label);
    button.type = "button";
    button.title = title;
    button.onclick = () => change(!pressed());
    return () => button.setAttribute("aria-pressed", String(pressed()));
  });
  const switches = Object.fromEntries(
    SERIES.map((series) => {
      const label = element("label", "flatlab-switch", bar);
      const box = element("input", "", label);
      box.type = "checkbox";
      label.append(` show ${series}`);
      label.title = `Show the ${series} that were measured`;
      box.onchange = () => {
        const others = model.get("shown").filter((name) => name !== series);
        set("shown", box.checked ? [...others, series] : others);
      };
      return [series, { label, box }];
    }),
  );

  const redraw = () => {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      if (outdated) build();
      else draw();
    });
  };
  const rebuild = () => {
    outdated = true; // a redraw asked for meanwhile must not take its place
    redraw();
  };

  function build() {
    outdated = false;
    panels = unpack(model);
    // Canvases are kept, so that a new measurement moves nothing on the page.
    while (row.children.length > Math.max(panels.length, 1)) row.lastChild.remove();
    while (row.children.length < panels.length) addPlace();
    if (!panels.length && !row.children.length) addPlace();
    [...row.children].forEach((place, k) => {
      const panel = panels[k];
      place.querySelector(".flatlab-title").textContent = panel ? panel.name : "Nothing measured yet";
      place.querySelector("canvas").setAttribute("aria-label", panel ? `${panel.name}: ${panel.axes.join(", ")}` : "empty");
      if (!panel) blank(place);
      if (panel) Object.assign(panel, { canvas: place.querySelector("canvas"), text: place.querySelector(".flatlab-values") });
    });
    caption.textContent = model.get("caption");
    draw();
  }

  // Nobody may take an earlier run's picture for this one's.
  function blank(place) {
    const canvas = place.querySelector("canvas");
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    place.querySelector(".flatlab-values").replaceChildren();
  }

  function addPlace() {
    const place = element("div", "flatlab-panel-of-landscape", row);
    element("div", "flatlab-title", place);
    const canvas = element("canvas", "flatlab-canvas", place);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    const values = element("div", "flatlab-values", place);
    values.setAttribute("role", "status");
    listen(canvas);
  }

  function listen(canvas) {
    let from = null;
    const mine = () => panels.find((panel) => panel.canvas === canvas);
    canvas.onpointerdown = (event) => {
      from = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointerup = () => {
      if (from && model.get("mode") === "3d") set("camera", camera);
      from = null;
    };
    canvas.onpointermove = (event) => {
      if (!mine()) return;
      if (from && model.get("mode") === "3d") {
        rotate(-0.5 * (event.clientX - from[0]), 0.5 * (event.clientY - from[1]));
        from = [event.clientX, event.clientY];
        return;
      }
      const corner = canvas.getBoundingClientRect();
      point(mine(), event.clientX - corner.left, event.clientY - corner.top);
      redraw();
    };
    canvas.onpointerleave = () => {
      cursor = model.get("cursor");
      marked = null;
      redraw();
    };
    canvas.onkeydown = (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step || !mine()) return;
      event.preventDefault();
      event.stopPropagation(); // the notebook would move to another cell
      if (model.get("mode") === "3d") {
        rotate(5 * step[0], 5 * step[1]);
        set("camera", camera);
        return;
      }
      const panel = mine();
      const [x, y] = cursor.length ? cursor : [0, 0];
      cursor = [[x, panel.x, panel.nx, step[0]], [y, panel.y, panel.ny, step[1]]].map(([now, range, count, by]) =>
        coordinate(Math.min(Math.max((nearest(now, range, count) ?? 0) + by, 0), count - 1), range, count),
      );
      set("cursor", cursor);
    };
  }

  function rotate(turn, lift) {
    camera = [(camera[0] + turn) % 360, Math.min(Math.max(camera[1] + lift, 2), 88)];
    redraw();
  }

  function point(panel, x, y) {
    let best = 9; // pixels
    marked = null;
    for (const spot of panel.spots) {
      const away = Math.hypot(spot.at[0] - x, spot.at[1] - y);
      if (away < best) [best, marked] = [away, spot.mark];
    }
    if (model.get("mode") === "2d") {
      const { box } = panel;
      const inside = x >= box.left && x <= box.left + box.width && y >= box.top && y <= box.top + box.height;
      cursor = inside ? [box.fromX(x), box.fromY(y)] : [];
      return;
    }
    let [closest, found] = [14, []];
    for (let j = 0; j < panel.ny; j++) {
      for (let i = 0; i < panel.nx; i++) {
        const [a, b] = [coordinate(i, panel.x, panel.nx), coordinate(j, panel.y, panel.ny)];
        const [right, down, near] = panel.look(toCube(a, panel.x), toCube(b, panel.y), panel.scale.place(panel[model.get("value")][j * panel.nx + i]));
        const away = Math.hypot(right - x, down - y) - 0.05 * near; // of two equally close, the one in front
        if (away < closest) [closest, found] = [away, [a, b]];
      }
    }
    cursor = found;
  }

  function draw() {
    const value = model.get("value");
    const shown = model.get("shown");
    toggles.forEach((update) => update());
    for (const series of SERIES) {
      const { label, box } = switches[series];
      label.style.display = panels.some((panel) => panel.marks.some((mark) => mark.series === series)) ? "" : "none";
      box.checked = shown.includes(series);
    }
    const scaled = (some) => scaleOf(some.map((panel) => panel[value]), model.get("log"));
    const common = scaled(panels);
    const ink = getComputedStyle(root).color;
    for (const panel of panels) {
      panel.scale = model.get("shared") ? common : scaled([panel]);
      drawPanel(panel, value, shown, ink);
      panel.text.replaceChildren();
      element("div", "", panel.text, said(panel, value));
      element("div", "", panel.text, saidOfMark(panel, value));
    }
  }

  function size(canvas) {
    const dpr = window.devicePixelRatio || 1;
    const width = Math.max(Math.min(WIDTH, row.clientWidth || WIDTH), 220);
    const [wide, high] = [Math.round(width * dpr), Math.round(HEIGHT * dpr)];
    if (canvas.width !== wide || canvas.height !== high) {
      [canvas.width, canvas.height] = [wide, high];
      [canvas.style.width, canvas.style.height] = [`${width}px`, `${HEIGHT}px`];
    }
    return { width, dpr };
  }

  function drawPanel(panel, value, shown, ink) {
    const { width, dpr } = size(panel.canvas);
    const pen = panel.canvas.getContext("2d");
    pen.setTransform(dpr, 0, 0, dpr, 0, 0);
    pen.clearRect(0, 0, width, HEIGHT);
    pen.font = "11px system-ui, sans-serif";
    const { scale } = panel;
    const room = { width: width - 118, height: HEIGHT - 58 };
    let place; // (x, y, value) -> pixels
    if (model.get("mode") === "2d") {
      const inner = fit(panel.x, panel.y, room.width, room.height);
      const box = { ...inner, left: 52 + (room.width - inner.width) / 2, top: 22 };
      box.toX = (x) => box.left + ((x - panel.x[0]) / (panel.x[1] - panel.x[0])) * box.width;
      box.toY = (y) => box.top + ((panel.y[1] - y) / (panel.y[1] - panel.y[0])) * box.height;
      box.fromX = (x) => panel.x[0] + ((x - box.left) / box.width) * (panel.x[1] - panel.x[0]);
      box.fromY = (y) => panel.y[1] - ((y - box.top) / box.height) * (panel.y[1] - panel.y[0]);
      panel.box = box;
      const key = [value, scale.low, scale.high, scale.log, width, dpr].join();
      if (panel.key !== key) [panel.key, panel.picture] = [key, flatPicture(panel, scale, value, box, dpr)];
      pen.drawImage(panel.picture, box.left, box.top, box.width, box.height);
      drawAxes(pen, panel, box, ink);
      drawBar(pen, scale, value, ink, width - 54, box.top, box.height);
      place = (x, y) => [box.toX(x), box.toY(y)];
      pen.save();
      pen.beginPath();
      pen.rect(box.left, box.top, box.width, box.height);
      pen.clip();
    } else {
      const seen = seenFrom(camera);
      panel.look = (x, y, z) => {
        const [right, down, near] = seen(x, y, 1.2 * z - 0.6);
        const reach = 0.3 * Math.min(width - 70, 300);
        return [(width - 62) / 2 + reach * right, HEIGHT / 2 - 8 + reach * down, near];
      };
      drawFloor(pen, panel, panel.look, ink, width - 62, HEIGHT - 16);
      drawSurface(pen, panel, scale, value, panel.look);
      drawBar(pen, scale, value, ink, width - 54, 22, room.height);
      place = (x, y, height) => panel.look(toCube(x, panel.x), toCube(y, panel.y), scale.place(height));
      pen.save();
    }
    drawMarks(pen, panel, place, value, shown);
    drawCursor(pen, panel, place, value);
    pen.restore();
  }

  function drawMarks(pen, panel, place, value, shown) {
    const marks = panel.marks.filter((mark) => shown.includes(mark.series));
    panel.spots = marks
      .map((mark) => ({ mark, at: place(mark.x, mark.y, mark[value]) }))
      .filter(({ at }) => at.every(Number.isFinite));
    for (const way of new Set(marks.map(wayOf).filter((name) => name !== null))) {
      pen.beginPath();
      panel.spots.filter(({ mark }) => wayOf(mark) === way).forEach(({ at }) => pen.lineTo(at[0], at[1]));
      pen.strokeStyle = "rgba(255,255,255,0.9)";
      pen.lineWidth = 2;
      pen.stroke();
      pen.strokeStyle = "rgba(0,0,0,0.6)";
      pen.lineWidth = 0.7;
      pen.stroke();
    }
    const order = ["trajectory", "clients", "markers", "models"];
    for (const { mark, at } of [...panel.spots].sort((a, b) => order.indexOf(a.mark.series) - order.indexOf(b.mark.series))) {
      drawShape(pen, mark.series, at[0], at[1], rgb(panel.scale.place(mark[value])));
      if (marked && mark.name === marked.name && mark.series === marked.series) {
        pen.strokeStyle = "#D55E00";
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(at[0], at[1], 9, 0, 7);
        pen.stroke();
      }
    }
  }

  function drawCursor(pen, panel, place, value) {
    const here = node(panel, [0, 0]);
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
    const spot = cursor.length ? node(panel, cursor) : null;
    if (!spot) return;
    const height = panel[value][spot.at];
    const [x, y] = place(spot.x, spot.y, Number.isFinite(height) ? height : panel.scale.low);
    if (model.get("mode") === "2d") {
      pen.setLineDash([4, 3]);
      cross(x, y, 1000, "rgba(0,0,0,0.55)", 2);
      cross(x, y, 1000, "#fff", 1);
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

  function node(panel, [x, y]) {
    const [i, j] = [nearest(x, panel.x, panel.nx), nearest(y, panel.y, panel.ny)];
    if (i === null || j === null) return null;
    return { x: coordinate(i, panel.x, panel.nx), y: coordinate(j, panel.y, panel.ny), at: j * panel.nx + i };
  }

  function said(panel, value) {
    const spot = node(panel, cursor.length ? cursor : [0, 0]);
    if (!spot) return "outside this panel";
    const where = cursor.length ? `at (${words(spot.x, 3)}, ${words(spot.y, 3)})` : "at the centre";
    return `${value} ${words(panel[value][spot.at])} ${where}`;
  }

  function saidOfMark(panel, value) {
    const mark = marked && panel.marks.find((other) => other.name === marked.name && other.series === marked.series);
    if (!mark) return " ";
    const off = mark.residual > 1e-3 ? `, ${words(mark.residual, 3)} off the plane` : "";
    return `${mark.name}: own ${value} ${words(mark[value])}${off}`;
  }

  const changes = [
    ["change:grids change:panels change:caption", rebuild],
    ["change:mode change:log change:shared change:value change:shown", redraw],
    ["change:camera", () => ((camera = model.get("camera")), redraw())],
    ["change:cursor", () => ((cursor = model.get("cursor")), redraw())],
  ];
  changes.forEach(([events, work]) => model.on(events, work));
  const resized = new ResizeObserver(redraw);
  resized.observe(row);
  const themed = new MutationObserver(redraw);
  themed.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name"] });
  build();
  return () => {
    cancelAnimationFrame(waiting);
    changes.forEach(([events, work]) => model.off(events, work));
    resized.disconnect();
    themed.disconnect();
  };
}

export default { render };
