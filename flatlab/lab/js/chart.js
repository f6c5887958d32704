// @ts-check
// A chart whose points arrive while it is looked at: what moves, what is linked, what the buttons do.

import { Card } from "./card.js";
import { Cells } from "./cells.js";
import { picture } from "./export.js";
import { Legend } from "./legend.js";
import { listen } from "./follow.js";
import { LINK, light } from "./link.js";
import { button, element, save } from "./page.js";
import { Plot } from "./plot.js";
import { inksOf } from "./theme.js";

const LABEL = 16; // pixels of a plot's title
const LOWEST = 124; // of a plot with its axes
const ROW = 40; // of a client's bar, at most

export class Chart {
  /** @param {any} model of anywidget @param {any} store its numbers @param {Element} el where it goes */
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    this.root = element("div", "flatlab-chart", el);
    const bar = element("div", "flatlab-chart-bar", this.root);
    this.title = element("div", "flatlab-chart-title", bar);
    this.row = element("div", "flatlab-chart-row", this.root);
    this.legend = new Legend(this, this.root);
    this.card = new Card(model, this);
    this.ink = inksOf(this.root);
    /** @type {any[]} of `Plot` or `Cells` */ this.plots = [];
    /** @type {{axis: string, x: number} | null} where the pointer is, here or in another chart */ this.near = null;
    /** @type {number | null} the round that is looked at; null: the latest, not marked */ this.at = model.get("at") ?? null;
    this.forward = ""; // the name of the curve brought forward
    this.built = ""; // the shape of what is built
    this.waiting = 0;
    this.buttons(bar);
    this.build();
    this.undo = listen(this);
  }

  get log() {
    return this.model.get("log");
  }

  get weight() {
    return this.model.get("smooth");
  }

  get height() {
    return this.model.get("height");
  }

  get hidden() {
    return new Set(this.model.get("hidden"));
  }

  /** @param {string} name @param {any} value */
  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** @param {Element} bar */
  buttons(bar) {
    const axis = (/** @type {string} */ name) => button(bar, `log ${name}`, `Logarithmic ${name} axes`, () =>
      this.set("log", this.log.includes(name) ? this.log.replace(name, "") : this.log + name));
    this.logs = ["x", "y"].map((name) => /** @type {const} */ ([name, axis(name)]));
    this.whole = button(bar, "⤢", "Show everything again (or double-click)", () => this.zoom(null));
    this.whole.setAttribute("aria-label", "Show everything again");
    button(bar, "PNG", "Save as shown", () => picture(this).then(({ png }) => save(png, "png")));
    const svg = button(bar, "SVG", "Save as shown, as lines and text", () => picture(this).then((files) => files.svg && save(files.svg, "svg")));
    // Marks of clients have axes that are all shown, and are no lines.
    for (const one of [...this.logs.map(([, made]) => made), this.whole, svg]) one.classList.add("flatlab-chart-curves");
    const fill = () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen?.());
    button(bar, "full screen", "Fill the screen (key F); Esc ends it", fill);
    this.root.onkeydown = (event) => {
      if (event.key !== "f" || event.ctrlKey || event.metaKey) return;
      event.stopPropagation(); // the notebook would search
      fill();
    };
    if (!this.model.still) button(bar, "PDF", "Save in the papers' style", () => this.model.send({ kind: "export", format: "pdf" }));
  }

  /** What needs other plots if it changes; names and notes of a curve do, its numbers do not. */
  shape() {
    return JSON.stringify([this.store.about.plots, this.log, this.weight > 0]);
  }

  build() {
    this.built = this.shape();
    const zooms = this.plots.map(({ zoom }) => zoom);
    this.plots.forEach((plot) => plot.destroy());
    this.row.replaceChildren();
    let first = 0;
    this.plots = this.store.about.plots.map((/** @type {any} */ about) => {
      const count = about.series.reduce((/** @type {number} */ sum, /** @type {any} */ one) => sum + one.columns, about.items?.columns ?? 0);
      const [from, to] = [first, (first += count)];
      const columns = () => this.store.columns.slice(from, to).map((/** @type {any} */ column) => column.values());
      return new (about.items ? Cells : Plot)(this, about, columns, this.row);
    });
    if (zooms.length === this.plots.length) this.plots.forEach((plot, k) => (plot.zoom = zooms[k]));
    this.plots.filter(({ u }) => u).forEach((plot) => this.point(plot));
    this.root.classList.toggle("flatlab-chart-cells", this.cells);
    this.root.classList.toggle("flatlab-chart-empty", !this.plots.length);
    this.legend.build();
    this.entitle();
    for (const [name, made] of this.logs ?? []) made.setAttribute("aria-pressed", String(this.log.includes(name)));
    this.fit();
    this.update();
  }

  entitle() {
    const { title, bands } = this.store.about;
    this.title.textContent = [title.replace("{round}", this.plots[0]?.shown ?? this.at), bands].filter(Boolean).join(" · ");
  }

  /** Whether it shows a run. @param {string} id */
  shows(id) {
    return [this.store.about.run ?? "", ...this.series.map(({ run }) => run)].some((ids) => ids.split(" ").includes(id));
  }

  /** Look at another round. @param {number | null} round */
  seek(round) {
    if (round === this.at) return;
    this.at = round;
    this.plots.forEach((plot) => plot.seek());
    this.entitle();
    this.values();
    this.root.dispatchEvent(new CustomEvent("flatlab-sought", { detail: round, bubbles: true }));
  }

  update() {
    this.plots.forEach((plot) => plot.update());
    this.entitle();
    this.values();
    const zoomed = this.plots.some(({ zoom }) => zoom.x || zoom.y);
    if (this.whole) this.whole.disabled = !zoomed;
    const { stamp } = this.store;
    if (stamp) {
      const detail = { stamp, shown: Date.now() / 1000 };
      requestAnimationFrame(() => this.root.dispatchEvent(new CustomEvent("flatlab-drawn", { detail, bubbles: true })));
    }
  }

  later() {
    this.waiting ||= requestAnimationFrame(() => {
      this.waiting = 0;
      this.update();
    });
  }

  get cells() {
    return this.plots.some((plot) => plot instanceof Cells);
  }

  fit() {
    if (this.cells) return this.fitCells();
    const most = this.plots.length === 3 ? 3 : 2; // no place stays empty
    const across = Math.max(1, Math.min(most, this.plots.length, Math.floor(this.row.clientWidth / 280)));
    this.row.style.gridTemplateColumns = `repeat(${across}, minmax(0, 1fr))`;
    const rows = Math.max(1, Math.ceil(this.plots.length / across));
    const height = Math.max(LOWEST, Math.floor(Math.max(this.height, this.room()) / rows) - LABEL);
    this.row.style.minHeight = this.plots.length ? "" : `${Math.max(this.height, this.room())}px`;
    this.legend.table.style.display = this.plots.length ? "" : "none";
    for (const plot of this.plots) plot.resize(Math.floor(plot.place.clientWidth), height);
  }

  /** Marks of clients stand beside each other where there is room. */
  fitCells() {
    const shares = this.plots.map(({ about }) => about.share);
    const wide = this.row.clientWidth;
    const each = wide / shares.reduce((a, b) => a + b, 0) >= 120;
    this.row.style.gridTemplateColumns = each ? shares.map((share) => `minmax(0, ${share}fr)`).join(" ") : "minmax(0, 1fr)";
    this.row.style.minHeight = "";
    const rows = Math.max(...this.plots.map(({ rows }) => rows));
    const room = this.plots.length < 3 ? this.room() : each ? Math.min(0.6 * this.room(), 60 + ROW * rows) : 0; // below is one client's
    const height = Math.max(this.height, room);
    for (const plot of this.plots) plot.resize(Math.floor(plot.place.clientWidth), height - LABEL);
  }

  /** What the view that the chart stands in leaves for its plots; 0 outside of one. */
  room() {
    const whole = document.fullscreenElement === this.root;
    const view = whole ? this.root : this.root.closest(".flatlab-view");
    if (!view) return 0;
    // What follows below, settings and tables, may be scrolled to.
    const above = this.row.getBoundingClientRect().top - view.getBoundingClientRect().top + view.scrollTop;
    return view.clientHeight - above - this.legend.table.offsetHeight - 12;
  }

  values() {
    const axis = this.plots[0]?.about.x.label;
    this.legend.update(this.near && this.near.axis === axis ? this.near.x : null, this.forward);
  }

  /** @param {string} name */
  bringForward(name) {
    if (name === this.forward) return;
    this.forward = name;
    this.plots.forEach((plot) => plot.bringForward(name));
    this.values();
  }

  /** As above, and tell what else shows these runs. @param {string} name */
  pointAt(name) {
    this.bringForward(name);
    light("run", this.series.find((one) => one.name === name)?.run ?? "");
  }

  /** @returns {any[]} of all plots */
  get series() {
    return this.store.about.plots.flatMap((/** @type {any} */ { series }) => series);
  }

  /** The pointer moved over a plot, or was moved by us. @param {Plot} plot */
  pointed(plot) {
    if (!plot.u?.over.matches(":hover")) return;
    const { idx, left } = plot.u.cursor;
    const inside = left !== undefined && left >= 0 && idx !== null && idx !== undefined;
    this.tell(inside ? { axis: plot.about.x.label, x: /** @type {number} */ (plot.u.data[0][idx]) } : null);
    this.pointAt(inside ? plot.under() : "");
  }

  /** @param {{axis: string, x: number} | null} near */
  tell(near) {
    if (JSON.stringify(near) !== JSON.stringify(this.near)) document.dispatchEvent(new CustomEvent(LINK, { detail: near }));
  }

  /** @param {Plot} plot */
  selected(plot) {
    const { left, top, width, height } = plot.u.select;
    if (width < 4 && height < 4) return;
    const { over } = plot.u;
    const wide = width >= 4 && width < over.clientWidth;
    const high = height >= 4 && height < over.clientHeight;
    this.zoom({
      x: wide ? [plot.u.posToVal(left, "x"), plot.u.posToVal(left + width, "x")] : plot.zoom.x,
      y: high ? [plot.u.posToVal(top + height, "y"), plot.u.posToVal(top, "y")] : plot.zoom.y,
    }, plot);
    plot.u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  }

  /** @param {any} to null: everything @param {Plot} [where] */
  zoom(to, where) {
    for (const plot of this.plots) {
      if (!to) plot.zoom = { x: null, y: null };
      else plot.zoom = { x: to.x, y: plot === where ? to.y : plot.zoom.y };
    }
    this.update();
  }

  /** @param {Plot} plot */
  point(plot) {
    const { over } = plot.u;
    over.ondblclick = () => this.zoom(null);
    over.onmouseleave = () => {
      this.tell(null);
      this.pointAt("");
    };
  }
}
