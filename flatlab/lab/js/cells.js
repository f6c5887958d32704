// @ts-check
// One plot whose marks are clients': boxes or dots on a canvas. What is one client's lights up in all plots of the page.

import { beside, ends, ofRound, under } from "./hits.js";
import { LIT, light } from "./link.js";
import { digits, ticks } from "./numbers.js";
import { element } from "./page.js";

const [LEFT, BELOW, ABOVE, RIGHT] = [48, 34, 6, 12]; // pixels around the marks
const DOT = 4;
const NAMED = 12; // more colours than so many are named where the pointer rests, not above

export class Cells {
  /** As of `Plot`. @param {any} chart @param {any} about @param {() => Float64Array[]} columns @param {Element} row */
  constructor(chart, about, columns, row) {
    this.chart = chart;
    this.about = about;
    this.columns = columns;
    this.zoom = { x: null, y: null };
    /** @type {[HTMLElement, string][]} */ this.swatches = [];
    this.lit = /** @type {number | null} */ (null);
    /** @type {number | undefined} the round that is seen, where there are several */ this.shown = undefined;
    /** @type {string[]} of the rows */ this.names = [];
    this.size = [300, chart.height];
    /** @type {[number, number]} */ this.across = [0, 1];
    /** @type {[number, number]} */ this.up = [0, 1];
    this.place = element("div", "flatlab-chart-plot flatlab-cells", row);
    const head = element("div", "flatlab-chart-label", this.place);
    this.named(head);
    this.canvas = element("canvas", "", this.place);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("data-lm-suppress-shortcuts", "true");
    this.tip = element("div", "flatlab-cells-tip", this.place);
    this.tip.setAttribute("role", "status");
    const { canvas } = this;
    canvas.onpointermove = (event) => this.point(this.at(event), event);
    canvas.onpointerleave = () => this.point(null);
    canvas.onclick = (event) => this.open(this.at(event));
    canvas.onkeydown = (event) => this.key(event);
    canvas.onblur = () => this.point(null);
    const lit = (/** @type {any} */ { detail }) => {
      if (detail.what !== "client") return;
      const [who, client] = detail.who.split(" ");
      const now = detail.who && who === about.items.population ? Number(client) : null;
      if (now === this.lit) return;
      this.lit = now;
      this.draw();
    };
    document.addEventListener(LIT, lit);
    this.destroy = () => document.removeEventListener(LIT, lit);
    this.update();
  }

  /** What the colours mean, behind what the plot shows. @param {Element} head */
  named(head) {
    const { items, y } = this.about;
    head.append(items.rounds || y.names.length ? this.about.what || y.label : y.label);
    if (items.named.length > NAMED) return;
    for (const [k, name] of items.named.entries()) {
      const color = items.colors[k];
      const entry = element("span", "flatlab-cells-name", head, name);
      const swatch = element("span", "flatlab-cells-swatch", entry);
      swatch.style.background = this.chart.ink.lit(color);
      entry.prepend(swatch);
      this.swatches.push([swatch, color]);
    }
  }

  /** @returns {any} the marks by name: all, or those of the round that is looked at */
  get marks() {
    let columns = this.columns();
    if (this.about.items.rounds) {
      const rounds = /** @type {Float64Array} */ (columns.pop());
      const here = ofRound(rounds, this.chart.at);
      columns = columns.map((column) => Float64Array.from(here, (k) => column[k]));
      this.shown = here.length ? rounds[here[0]] : undefined;
    }
    const [client, x, y, value, color, wide, high] = columns;
    return { client, x, y, value, color, wide, high };
  }

  /** How many rows there are at most. */
  get rows() {
    const { items, y } = this.about;
    return items.rounds ? Math.max(...y.limits) + 0.5 : y.names.length;
  }

  /** Another round is looked at. */
  seek() {
    if (this.about.items.rounds) this.update();
  }

  update() {
    this.now = this.marks;
    const { about, now } = this;
    this.names = about.y.names;
    if (about.items.rounds) {
      this.names = [];
      now.y.forEach((/** @type {number} */ row, /** @type {number} */ k) => (this.names[row] = String(now.client[k])));
    }
    this.across = ends(now.x, now.wide, about.x.limits);
    this.up = ends(now.y, now.high, about.y.limits);
    const clients = new Set(Array.from(now.client)).size;
    this.canvas.setAttribute("aria-label", `${about.what || about.y.label} of ${clients} clients, ${about.x.label}. Arrow keys go through them, Enter opens one.`);
    this.draw();
  }

  redraw() {
    for (const [swatch, color] of this.swatches) swatch.style.background = this.chart.ink.lit(color);
    this.draw();
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    if (width <= 0 || (this.size[0] === width && this.size[1] === height)) return;
    this.size = [width, Math.max(90, height)];
    this.draw();
  }

  follow() {}
  hide() {}
  bringForward() {}
  valueOf() {
    return undefined;
  }

  x(/** @type {number} */ value) {
    const [from, to] = this.across;
    return LEFT + ((value - from) / (to - from)) * (this.size[0] - LEFT - RIGHT);
  }

  y(/** @type {number} */ value) {
    const [from, to] = this.up;
    return this.size[1] - BELOW - ((value - from) / (to - from)) * (this.size[1] - BELOW - ABOVE);
  }

  /** The mark below the pointer. @param {MouseEvent} event */
  at(event) {
    const [left, right] = [LEFT, this.size[0] - RIGHT];
    const [top, bottom] = [ABOVE, this.size[1] - BELOW];
    const [[x0, x1], [y0, y1]] = [this.across, this.up];
    const x = x0 + ((event.offsetX - left) / (right - left)) * (x1 - x0);
    const y = y0 + ((bottom - event.offsetY) / (bottom - top)) * (y1 - y0);
    const reach = /** @type {[number, number]} */ ([(12 / (right - left)) * Math.abs(x1 - x0), (12 / (bottom - top)) * Math.abs(y1 - y0)]);
    const place = under(this.now, x, y, reach);
    return place < 0 ? null : place;
  }

  /** @param {number | null} place of the mark pointed at @param {MouseEvent} [event] */
  point(place, event) {
    const { population } = this.about.items;
    const client = place === null ? null : this.now.client[place];
    light("client", client === null ? "" : `${population} ${client}`);
    this.canvas.style.cursor = client === null ? "" : "pointer";
    this.tip.hidden = place === null;
    if (place === null) return;
    this.tip.textContent = this.told(place);
    const [x, y] = event ? [event.offsetX, event.offsetY] : [this.x(this.now.x[place]), this.y(this.now.y[place])];
    const { offsetLeft, offsetTop } = this.canvas;
    const left = Math.min(x + 12, this.size[0] - this.tip.offsetWidth - 2);
    this.tip.style.transform = `translate(${offsetLeft + Math.max(0, left)}px, ${offsetTop + Math.max(0, y - 26)}px)`;
  }

  /** @param {number} place */
  told(place) {
    const { items, y, what } = this.about;
    const { client, value, color } = this.now;
    const kind = items.named[color[place]] ?? (y.label === "class" ? y.names[this.now.y[place]] : "");
    return `client ${client[place]}: ${digits(value[place])} ${what}${kind ? ` (${y.label === "class" || what === "images" ? "class " : ""}${kind})` : ""}`;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const place = (/** @type {number | null} */ client) => (client === null ? null : Array.from(this.now.client).indexOf(client));
    if (step) this.point(place(beside(this.now.client, this.lit, step)));
    else if (event.key === "Enter" && this.lit !== null) this.open(place(this.lit));
    else return;
    event.preventDefault();
  }

  /** @param {number | null} place */
  open(place) {
    if (place !== null) this.chart.card.open(this.now.client[place], this.place);
  }

  draw() {
    const { canvas, size, about, now, chart } = this;
    const scale = devicePixelRatio;
    [canvas.width, canvas.height] = size.map((one) => Math.round(one * scale));
    [canvas.style.width, canvas.style.height] = size.map((one) => `${one}px`);
    const ink = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    ink.scale(scale, scale);
    this.axes(ink);
    if (about.items.rounds && !now.client.length) {
      ink.textAlign = "center";
      ink.fillText("not scored", (LEFT + size[0] - RIGHT) / 2, size[1] / 2);
    }
    if (about.diagonal) {
      ink.strokeStyle = chart.ink.text;
      ink.setLineDash([3, 3]);
      ink.beginPath();
      const from = Math.max(this.across[0], this.up[0]);
      const to = Math.min(this.across[1], this.up[1]);
      ink.moveTo(this.x(from), this.y(from));
      ink.lineTo(this.x(to), this.y(to));
      ink.stroke();
      ink.setLineDash([]);
    }
    const { colors, named } = about.items;
    // From little to much means from near the paper to far from it, whichever is dark.
    const turned = chart.ink.dark && !named.length && colors.length > 2;
    for (let k = 0; k < now.client.length; k += 1) {
      const color = colors[turned ? colors.length - 1 - now.color[k] : now.color[k]];
      ink.globalAlpha = this.lit === null || now.client[k] === this.lit ? 1 : 0.3;
      ink.fillStyle = colors.length > 2 && !named.length ? color : chart.ink.lit(color);
      this.mark(ink, k, false);
    }
    ink.globalAlpha = 1;
    if (this.lit === null) return;
    [ink.strokeStyle, ink.lineWidth] = [chart.ink.strong, 1.5];
    for (let k = 0; k < now.client.length; k += 1) if (now.client[k] === this.lit) this.mark(ink, k, true);
  }

  /** @param {CanvasRenderingContext2D} ink @param {number} k @param {boolean} outlined */
  mark(ink, k, outlined) {
    const { now } = this;
    if (now.wide) {
      const [left, right] = [this.x(now.x[k] - now.wide[k] / 2), this.x(now.x[k] + now.wide[k] / 2)];
      const [a, b] = [this.y(now.y[k] - now.high[k] / 2), this.y(now.y[k] + now.high[k] / 2)];
      const box = /** @type {[number, number, number, number]} */ ([left, Math.min(a, b), right - left, Math.abs(b - a)]);
      if (outlined) ink.strokeRect(...box);
      else ink.fillRect(...box);
      return;
    }
    ink.beginPath();
    ink.arc(this.x(now.x[k]), this.y(now.y[k]), outlined ? DOT + 2 : DOT, 0, 2 * Math.PI);
    if (outlined) ink.stroke();
    else ink.fill();
  }

  /** @param {CanvasRenderingContext2D} ink */
  axes(ink) {
    const { about, chart, size } = this;
    [ink.font, ink.fillStyle, ink.strokeStyle] = ["11px system-ui, sans-serif", chart.ink.text, chart.ink.grid];
    const [right, bottom] = [size[0] - RIGHT, size[1] - BELOW];
    ink.textAlign = "center";
    for (const [at, text] of this.splits(about.x, this.across, (right - LEFT) / 44)) {
      if (!about.x.names.length && about.y.label !== "class") ink.strokeRect(this.x(at), ABOVE, 0, bottom - ABOVE);
      ink.fillText(text, this.x(at), bottom + 14);
    }
    const half = ink.measureText(about.x.label).width / 2;
    ink.fillText(about.x.label, Math.max(half, Math.min((LEFT + right) / 2, size[0] - half - 1)), bottom + 29);
    ink.textAlign = "right";
    for (const [at, text] of this.splits({ ...about.y, names: this.names }, this.up, (bottom - ABOVE) / (this.names.length ? 13 : 30))) {
      if (!this.names.length) ink.strokeRect(LEFT, this.y(at), right - LEFT, 0);
      ink.fillText(text, LEFT - 5, this.y(at) + 4);
    }
  }

  /** @param {any} axis @param {[number, number]} span @param {number} most @returns {[number, string][]} */
  splits(axis, span, most) {
    if (axis.names.length) {
      const every = Math.max(1, Math.ceil(axis.names.length / Math.max(1, most)));
      return axis.names.map((/** @type {string} */ name, /** @type {number} */ k) => [k, name]).filter((/** @type {any} */ [k]) => k % every === 0);
    }
    if (axis.label === "client" && !this.now.client.length) return []; // nobody is there
    const found = ticks(Math.min(...span), Math.max(...span), Math.max(2, Math.min(8, most)));
    return found.filter((at) => axis.label !== "client" || Number.isInteger(at)).map((at) => [at, digits(at)]);
  }
}
