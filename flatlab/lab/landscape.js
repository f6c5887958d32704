// Loss landscapes side by side, as contours or as surfaces: the widget. All panels share the crosshair, the camera and, by
// choice, the colour scale. Canvas 2D only: no library, nothing fetched. Names come from users: they only ever become text.
// Follows element.js, scales.js, plane.js, surface.js, marks.js, panels.js and pointer.js, which `LandscapeView` puts before it.

const SERIES = ["models", "trajectory", "clients", "markers"];
const WHOLE = { x: 0.5, y: 0.5, size: 1 };
const BELOW = 64; // pixels of the values and the title of a panel
const SPEED = 8; // degrees a second of the slow turn

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

class Scene {
  constructor(model, el) {
    this.model = model;
    this.root = element("div", "flatlab-landscape", el);
    this.bar = element("div", "flatlab-bar", this.root);
    this.row = element("div", "flatlab-row", this.root);
    this.caption = element("div", "flatlab-caption", this.root);
    this.panels = [];
    this.camera = model.get("camera");
    this.cursor = model.get("cursor"); // [x, y] or []
    this.lens = WHOLE; // what of each panel is seen
    this.marked = null; // the mark below the pointer
    this.at = model.get("at") ?? null; // the round that is looked at, on the runs' ways; null: the latest
    this.waiting = 0;
    this.turning = 0; // when the last picture of the slow turn was drawn; 0: it does not turn
    this.outdated = false; // whether the panels of the model are newer than those built
    this.buttons();
  }

  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  buttons() {
    const { model } = this;
    const one = (label, title, pressed, change) => {
      const button = element("button", "flatlab-toggle", this.bar, label);
      button.type = "button";
      button.title = title;
      button.onclick = () => change(!pressed());
      return () => button.setAttribute("aria-pressed", String(pressed()));
    };
    const solid = () => model.get("mode") === "3d";
    this.toggles = [
      one("3-D", "Surfaces in perspective; drag or use the arrow keys to rotate all panels", solid, (on) => this.set("mode", on ? "3d" : "2d")),
      one("turn", "Turn the surfaces slowly", () => this.turning > 0, (on) => this.turn(on)),
      one("log", "Logarithmic scale", () => model.get("log"), (on) => this.set("log", on)),
      one("shared scale", "One colour scale for all panels", () => model.get("shared"), (on) => this.set("shared", on)),
      one("accuracy", "Accuracy instead of loss", () => model.get("value") === "accuracy", (on) => this.set("value", on ? "accuracy" : "loss")),
    ];
    this.switches = Object.fromEntries(SERIES.map((series) => {
      const label = element("label", "flatlab-switch", this.bar);
      const box = element("input", "", label);
      box.type = "checkbox";
      label.append(` show ${series}`);
      label.title = `Show the ${series} that were measured`;
      box.onchange = () => {
        const others = model.get("shown").filter((name) => name !== series);
        this.set("shown", box.checked ? [...others, series] : others);
      };
      return [series, { label, box }];
    }));
    this.toggles.push(one("full screen", "Fill the screen (key F on a picture; Esc ends it)", () => document.fullscreenElement === this.root, () => this.fill()));
  }

  fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen?.();
  }

  turn(on) {
    if (on === this.turning > 0) return;
    if (on) this.set("mode", "3d");
    this.turning = on ? performance.now() : 0;
    if (!on) this.set("camera", this.camera);
    this.redraw();
  }

  rotate(turn, lift) {
    this.camera = [(this.camera[0] + turn) % 360, Math.min(Math.max(this.camera[1] + lift, 2), 88)];
    this.redraw();
  }

  look(lens) {
    this.lens = lens;
    this.redraw();
  }

  shift(x, y) {
    const { lens } = this;
    const kept = (centre, by) => Math.min(Math.max(centre + by * lens.size, lens.size / 2), 1 - lens.size / 2);
    this.look({ ...lens, x: kept(lens.x, x), y: kept(lens.y, y) });
  }

  shareX(x, panel) {
    return (x - panel.x[0]) / (panel.x[1] - panel.x[0]);
  }

  shareY(y, panel) {
    return (y - panel.y[0]) / (panel.y[1] - panel.y[0]);
  }

  redraw() {
    this.waiting ||= requestAnimationFrame((now) => {
      this.waiting = 0;
      if (this.turning) {
        this.camera = [(this.camera[0] + (SPEED * Math.min(now - this.turning, 100)) / 1000) % 360, this.camera[1]];
        this.turning = Math.max(now, 1);
      }
      if (this.outdated) this.build();
      else this.draw();
      if (this.turning) this.redraw();
    });
  }

  rebuild() {
    this.outdated = true; // a redraw asked for meanwhile must not take its place
    this.redraw();
  }

  build() {
    this.outdated = false;
    const { row } = this;
    this.panels = unpack(this.model);
    // Canvases are kept, so that a new measurement moves nothing on the page.
    while (row.children.length > Math.max(this.panels.length, 1)) row.lastChild.remove();
    while (row.children.length < Math.max(this.panels.length, 1)) this.addPlace();
    [...row.children].forEach((place, k) => {
      const panel = this.panels[k];
      const canvas = place.querySelector("canvas");
      place.querySelector(".flatlab-title").textContent = panel ? panel.name : this.model.get("hint");
      if (panel) Object.assign(panel, { canvas, text: place.querySelector(".flatlab-values") });
      else {
        // Nobody may take an earlier run's picture for this one's.
        canvas.setAttribute("aria-label", this.model.get("hint"));
        canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
        place.querySelector(".flatlab-values").replaceChildren();
      }
    });
    this.caption.textContent = this.model.get("caption");
    this.draw();
  }

  addPlace() {
    const place = element("div", "flatlab-panel-of-landscape", this.row);
    element("div", "flatlab-title", place);
    const canvas = element("canvas", "flatlab-canvas", place);
    canvas.tabIndex = 0;
    canvas.title = "Click it, then the wheel magnifies; a double click shows all again. Keys: arrows, + - 0, F";
    canvas.setAttribute("role", "img");
    element("div", "flatlab-values", place).setAttribute("role", "status");
    listen(this, canvas);
  }

  /** What the tab, or the whole screen, leaves for the pictures. */
  room() {
    const view = document.fullscreenElement === this.root ? this.root : this.root.closest(".flatlab-view");
    if (!view) return { width: this.row.clientWidth, height: 380 };
    const above = this.row.getBoundingClientRect().top - view.getBoundingClientRect().top + view.scrollTop;
    return { width: this.row.clientWidth, height: view.clientHeight - above - BELOW };
  }

  draw() {
    const value = this.model.get("value");
    const shown = this.model.get("shown");
    this.toggles.forEach((update) => update());
    for (const series of SERIES) {
      const { label, box } = this.switches[series];
      label.style.display = this.panels.some((panel) => panel.marks.some((mark) => mark.series === series)) ? "" : "none";
      box.checked = shown.includes(series);
    }
    const room = this.room();
    const size = arranged(this.panels.length, Math.max(room.width, 220), Math.max(room.height, 240));
    for (const place of this.row.children) place.style.width = `${size.width}px`;
    const scaled = (some) => scaleOf(some.map((panel) => panel[value]), this.model.get("log"));
    const common = scaled(this.panels);
    const ink = getComputedStyle(this.root).color;
    for (const panel of this.panels) {
      panel.scale = this.model.get("shared") ? common : scaled([panel]);
      panel.size = size;
      drawPanel(this, panel, value, shown, ink);
      // In one line after another, so that nothing moves; what is too long is seen when the pointer rests on it.
      panel.text.textContent = panel.text.title = [said(this, panel, value), saidOfMark(this, panel, value)].filter(Boolean).join(" · ");
      panel.canvas.setAttribute("aria-label", `${panel.name}: ${value} over ${panel.axes.join(" and ")}; ${said(this, panel, value)}`);
    }
  }
}

function render({ model, el }) {
  const scene = new Scene(model, el);
  const redraw = () => scene.redraw();
  const changes = [
    ["change:grids change:panels change:caption change:hint", () => scene.rebuild()],
    ["change:mode change:log change:shared change:value change:shown", redraw],
    ["change:camera", () => scene.turning || ((scene.camera = model.get("camera")), redraw())],
    ["change:at", () => ((scene.at = model.get("at")), redraw())],
    ["change:cursor", () => ((scene.cursor = model.get("cursor")), redraw())],
  ];
  changes.forEach(([events, work]) => model.on(events, work));
  const resized = new ResizeObserver(redraw);
  resized.observe(scene.row);
  requestAnimationFrame(() => {
    const view = scene.root.closest(".flatlab-view"); // known once the root is on the page
    if (view) resized.observe(view);
  });
  const themed = new MutationObserver(redraw);
  themed.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name"] });
  document.addEventListener("fullscreenchange", redraw);
  const sought = ({ detail }) => {
    if (!(model.get("runs") ?? []).includes(detail.run)) return;
    scene.at = detail.round;
    redraw();
  };
  document.addEventListener("flatlab-round", sought); // a time line was moved
  scene.build();
  return () => {
    scene.turning = 0;
    cancelAnimationFrame(scene.waiting);
    changes.forEach(([events, work]) => model.off(events, work));
    resized.disconnect();
    themed.disconnect();
    document.removeEventListener("fullscreenchange", redraw);
    document.removeEventListener("flatlab-round", sought);
  };
}

export default { render };
