// Clients that pull: in each round arrows fan out from the global model to its clients' models, then snap into their mean.
// A panel a run, all in one unit of length, one play button. Canvas 2D only. Names come from users: they only become text.
// Follows element.js and pull_moments.js.

const SPEEDS = { "¼": 0.25, "½": 0.5, "1": 1, "2": 2 }; // rounds a second
const NARROW = 340; // pixels of a picture below which its words take a line more
const NAMED = 10; // clients up to which each has its loss beside it

class Scene {
  constructor(model, el) {
    this.model = model;
    this.root = element("div", "flatlab-pulls", el);
    const bar = element("div", "flatlab-timeline", this.root);
    this.play = element("button", "flatlab-timeline-button", bar, "▶");
    this.slider = element("input", "flatlab-pulls-slider", bar);
    this.readout = element("output", "flatlab-timeline-readout", bar);
    this.speed = element("select", "flatlab-timeline-button", bar);
    this.loop = element("button", "flatlab-timeline-button", bar, "⟲");
    Object.assign(this.play, { type: "button", title: "Play the rounds: arrows fan out, and snap into their mean", onclick: () => (this.playing ? this.stop() : this.start()) });
    Object.assign(this.slider, { type: "range", min: 0, step: 0.01, title: "The rounds; drag to look into one" });
    this.slider.oninput = () => (this.stop(), this.look(Number(this.slider.value)));
    this.speed.title = "Rounds a second";
    for (const [name, value] of Object.entries(SPEEDS)) element("option", "", this.speed, `${name}/s`).value = value;
    this.speed.value = 0.5;
    Object.assign(this.loop, { type: "button", title: "Begin again at the end", onclick: () => this.repeat(!this.repeats) });
    this.keys = element("div", "flatlab-pulls-keys", this.root);
    this.row = element("div", "flatlab-row", this.root);
    this.caption = element("div", "flatlab-caption", this.root);
    [this.playing, this.before, this.time] = [0, 0, 0];
    this.repeat(true);
    this.build();
  }

  repeat(on) {
    this.repeats = on;
    this.loop.setAttribute("aria-pressed", String(on));
  }

  get count() {
    return Math.max(0, ...this.model.get("runs").map(({ rounds }) => rounds.length));
  }

  build() {
    const runs = this.model.get("runs");
    this.stop();
    this.row.replaceChildren();
    this.panels = runs.map((run) => {
      const place = element("div", "flatlab-pulls-panel", this.row);
      element("div", "flatlab-title", place, run.name);
      const canvas = element("canvas", "flatlab-pulls-canvas", place);
      canvas.setAttribute("role", "img");
      const said = element("div", "flatlab-values", place);
      const panel = { run, canvas, said, size: [0, 0], near: null };
      canvas.onpointermove = (event) => this.point(panel, event);
      canvas.onpointerleave = () => ((panel.near = null), this.draw());
      return panel;
    });
    this.caption.textContent = this.model.get("caption");
    this.keys.replaceChildren();
    for (const [name, color] of this.model.get("names")) {
      const key = element("span", "flatlab-pulls-key", this.keys, name);
      const swatch = element("span", "flatlab-cells-swatch", key);
      swatch.style.background = color;
      key.prepend(swatch);
    }
    for (const one of [this.play, this.slider, this.speed, this.loop]) one.disabled = !this.count;
    this.slider.max = this.count;
    this.look(this.count);
  }

  look(time) {
    this.time = Math.min(Math.max(time, 0), this.count);
    this.slider.value = this.time;
    this.draw();
  }

  /** Look at a run's round as it ended, if it is among those shown. */
  seek(id, round) {
    for (const { id: own, rounds } of this.model.get("runs")) {
      const place = own === id ? (round === null ? rounds.length - 1 : rounds.findIndex((one) => one.round === round)) : -1;
      if (place >= 0) return this.stop(), this.look(ended(place, rounds.length, this.count));
    }
  }

  start() {
    if (!this.count) return;
    if (this.time >= this.count) this.look(0);
    this.play.textContent = "▮▮";
    this.before = performance.now();
    this.playing = requestAnimationFrame((now) => this.frame(now));
  }

  stop() {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    this.play.textContent = "▶";
  }

  frame(now) {
    const next = this.time + (Math.max(now - this.before, 0) / 1000) * Number(this.speed.value);
    this.before = Math.max(now, this.before);
    if (next >= this.count && !this.repeats) {
      this.stop();
      return this.look(this.count);
    }
    this.look(next >= this.count ? 0 : next);
    this.playing = requestAnimationFrame((time) => this.frame(time));
  }

  fit() {
    const view = this.root.closest(".flatlab-view");
    const wide = this.row.clientWidth;
    const columns = Math.max(1, Math.min(this.panels.length, Math.floor(wide / 240)));
    const width = Math.floor((wide - 10 * (columns - 1)) / columns) - 2; // of the frame
    const above = view ? this.row.getBoundingClientRect().top - view.getBoundingClientRect().top + view.scrollTop : 0;
    const rows = Math.ceil(this.panels.length / columns);
    const lines = width < NARROW ? 3 : 2; // of what is said below
    const high = view ? Math.floor((view.clientHeight - above - 30) / rows) - 26 - 16 * lines : 340;
    const height = Math.max(220, Math.min(high, width));
    for (const panel of this.panels) {
      panel.size = [width, height];
      panel.canvas.parentElement.style.width = `${width}px`; // else its words would be wider, and it stood alone in its row
      panel.said.style.height = `${1.35 * lines}em`;
    }
  }

  draw() {
    if (!this.row.clientWidth) return;
    this.fit();
    const ink = getComputedStyle(this.root).color;
    const parts = (ink.match(/[\d.]+/g) ?? ["0", "0", "0"]).slice(0, 3).map(Number);
    const paper = parts[0] + parts[1] + parts[2] > 384 ? "#111" : "#fff";
    const names = new Set();
    for (const panel of this.panels) {
      const { rounds } = panel.run;
      // A run with fewer rounds waits at its first.
      const now = moment(this.time - (this.count - rounds.length), rounds.length);
      this.drawPanel(panel, rounds, now, ink, paper);
      names.add(rounds[now.place].round);
    }
    this.readout.textContent = names.size ? `round ${[...names].join(", ")}` : "";
  }

  drawPanel(panel, rounds, { place, share }, ink, paper) {
    const { canvas, size: [width, height], run } = panel;
    const scale = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.font = "11px system-ui, sans-serif";
    const unit = (Math.min(width, height) / 2 - 12) / run.half;
    const at = ({ x, y }) => ({ x: width / 2 + unit * (x - run.centre[0]), y: height / 2 - unit * (y - run.centre[1]) });
    const round = rounds[place];
    const { heads, snap, star: middle, arrived } = placed(round, share);
    pen.globalAlpha = 0.5;
    [pen.strokeStyle, pen.lineWidth] = [ink, 1];
    pen.beginPath();
    for (const { x, y } of [...rounds.slice(0, place + 1).map(({ from }) => from), middle].map(at)) pen.lineTo(x, y);
    pen.stroke();
    for (const { from } of rounds.slice(0, place)) star(pen, at(from), 4, paper, ink);
    pen.globalAlpha = 1;
    panel.spots = [];
    heads.forEach((head, k) => {
      const client = round.clients[k];
      pen.globalAlpha = arrived ? 0.3 : 1;
      arrow(pen, at(arrived ? round.from : between(round.from, round.mean, snap)), at(arrived ? client : head), client.color);
      if (arrived || !snap) panel.spots.push({ mark: client, at: at(arrived ? client : head) });
    });
    pen.globalAlpha = 1;
    star(pen, at(round.from), 6, paper, ink);
    panel.spots.push({ mark: round.from, at: at(round.from) });
    if (round.swa && arrived) {
      star(pen, at(round.swa), 8, "#d1a000", paper);
      panel.spots.push({ mark: round.swa, at: at(round.swa) });
    }
    if (snap === 1) {
      star(pen, at(middle), 8, ink, paper);
      if (arrived) panel.spots.push({ mark: round.to, at: at(round.to) });
    }
    this.write(pen, panel, ink, paper, share);
  }

  /** True losses beside the marks. */
  write(pen, panel, ink, paper, share) {
    const few = panel.spots.filter(({ mark }) => mark.client !== undefined).length <= NAMED;
    const shown = share >= OUT ? panel.spots.filter(({ mark }) => few || mark.client === undefined).reverse() : [];
    const texts = shown.map(({ mark, at }) => {
      const text = told(mark.loss);
      return { text, x: at.x + 8, y: at.y - 6, wide: pen.measureText(text).width, strong: mark.client === undefined };
    });
    [pen.lineJoin, pen.textAlign] = ["round", "left"];
    for (const { text, x, y, strong } of apart(texts, ...panel.size)) {
      [pen.strokeStyle, pen.lineWidth, pen.fillStyle] = [paper, 3, ink];
      pen.globalAlpha = strong ? 1 : 0.8;
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    }
    pen.globalAlpha = 1;
    const { rounds } = panel.run;
    const said = saidOf(rounds[moment(this.time - (this.count - rounds.length), rounds.length).place]);
    panel.said.replaceChildren();
    element("div", "", panel.said, said);
    element("div", "", panel.said, panel.near ?? `${panel.run.share} in this plane`);
    panel.canvas.setAttribute("aria-label", `${panel.run.name}, ${said}; ${panel.run.share} in this plane`);
  }

  point(panel, event) {
    let best = 14;
    panel.near = null;
    for (const { mark, at } of panel.spots ?? []) {
      const away = Math.hypot(at.x - event.offsetX, at.y - event.offsetY);
      if (away < best) [best, panel.near] = [away, mark.told];
    }
    this.draw();
  }
}

function render({ model, el }) {
  const scene = new Scene(model, el);
  const build = () => scene.build();
  const sought = ({ detail }) => scene.seek(detail.run, detail.round);
  const draw = () => requestAnimationFrame(() => scene.draw());
  model.on("change:runs", build);
  document.addEventListener("flatlab-round", sought);
  const sized = new ResizeObserver(draw);
  sized.observe(scene.row);
  requestAnimationFrame(() => {
    const view = scene.root.closest(".flatlab-view");
    if (view) sized.observe(view);
  });
  const themed = new MutationObserver(draw);
  themed.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-jp-theme-name"] });
  return () => {
    scene.stop();
    model.off("change:runs", build);
    document.removeEventListener("flatlab-round", sought);
    sized.disconnect();
    themed.disconnect();
  };
}

export default { render };
