// @ts-check
// One plot: uPlot paints axes and lines; which lines there are, their order and their ranges are decided here.

import uPlot from "uplot";
import { curveOf, tableOf } from "./curves.js";
import { closest, digits, errorBars, heightAt, lastAt, logTicks, nearest, roomy, ticks } from "./numbers.js";
import { DASHES, element } from "./page.js";

const FONT = "11px system-ui, sans-serif";
const REACH = 24; // pixels from the pointer to the curve it brings forward

export class Plot {
  /**
   * @param {any} chart the view it is part of: ink, log, weight, hidden, pointed, selected
   * @param {any} about as `Plot.about` tells
   * @param {() => Float64Array[]} columns its numbers
   * @param {Element} row where it goes
   */
  constructor(chart, about, columns, row) {
    this.chart = chart;
    this.about = about;
    this.columns = columns;
    this.zoom = { x: /** @type {any} */ (null), y: /** @type {any} */ (null) };
    this.place = element("div", "flatlab-chart-plot", row);
    element("div", "flatlab-chart-label", this.place, about.y.label);
    /** @type {number[]} of each curve, its main line among uPlot's series */ this.lines = [];
    this.curves = this.read();
    const canvas = element("div", "flatlab-chart-canvas", this.place);
    this.u = new uPlot(this.options(), /** @type {any} */ (this.table()), canvas);
    this.u.root.setAttribute("role", "img");
    this.tell();
  }

  log(/** @type {"x" | "y"} */ axis) {
    return this.chart.log.includes(axis);
  }

  /** The curves as they are now. */
  read() {
    const columns = this.columns();
    let at = 0;
    return this.about.series.map((/** @type {any} */ series) =>
      curveOf(series, columns.slice(at, (at += series.columns)), this.chart.weight, this.about.y.within),
    );
  }

  table() {
    const table = tableOf(this.curves, this.log("y"));
    // A logarithmic axis has no place for 0, where the axis of rounds begins.
    if (this.log("x") && table[0].length && !(table[0][0] > 0)) {
      const from = Array.prototype.findIndex.call(table[0], (x) => x > 0);
      return table.map((column) => column.slice(from < 0 ? table[0].length : from));
    }
    return table;
  }

  /** Show what has come. */
  update() {
    this.curves = this.read();
    this.u.setData(/** @type {any} */ (this.table()));
    this.tell();
  }

  /** What a screen reader says of the picture. */
  tell() {
    const said = this.about.series.map((/** @type {any} */ { name }, /** @type {number} */ k) => {
      const { y } = this.curves[k];
      return `${name} ${digits(y[y.length - 1])}`;
    });
    this.u.root.setAttribute("aria-label", `${this.about.y.label} against ${this.about.x.label}: ${said.join("; ")}`);
  }

  /** @returns {any} */
  options() {
    const { chart, about } = this;
    /** @type {uPlot.Series[]} */ const series = [{}];
    /** @type {any[]} */ const bands = [];
    about.series.forEach((/** @type {any} */ one, /** @type {number} */ k) => {
      const color = (/** @type {number} */ alpha) => () => chart.ink.lit(one.color, alpha);
      const common = { label: one.name, show: !chart.hidden.has(one.name) };
      const dash = DASHES[one.dash];
      const bare = { ...common, points: { show: false } };
      if (this.curves[k].raw) series.push({ ...bare, stroke: color(0.3), width: 1 });
      this.lines[k] = series.length;
      const few = (/** @type {any} */ _u, /** @type {number} */ _k, /** @type {number} */ i0, /** @type {number} */ i1) => i1 - i0 < 2;
      series.push({ ...common, stroke: color(1), width: 1.75, dash, points: { show: few, size: 6, fill: color(1) } });
      const values = one.role === "values";
      if (values) Object.assign(series[series.length - 1], { points: { show: true, size: 7, fill: color(1) }, width: one.dash === "none" ? 0 : 1 });
      if (this.curves[k].low && !values) bands.push({ series: [series.length + 1, series.length], fill: color(0.16) });
      if (this.curves[k].low) {
        const edge = { ...bare, stroke: "transparent", width: 0 };
        series.push(edge, { ...edge });
      }
    });
    const axis = {
      stroke: () => chart.ink.text, font: FONT, labelFont: FONT, ticks: { show: false }, gap: 6,
      grid: { stroke: () => chart.ink.grid, width: 1 }, filter: (/** @type {any} */ _u, /** @type {any} */ splits) => splits,
      values: (/** @type {any} */ _u, /** @type {number[]} */ splits) => splits.map(digits),
    };
    return {
      width: 300, height: chart.height, series, bands, legend: { show: false }, padding: [8, 16, 0, 0],
      scales: {
        x: { time: false, distr: this.log("x") ? 3 : 1, range: (/** @type {any} */ _u, /** @type {any} */ low, /** @type {any} */ high) => this.across(low, high) },
        y: { distr: this.log("y") ? 3 : 1, range: (/** @type {any} */ _u, /** @type {any} */ low, /** @type {any} */ high) => this.zoom.y ?? about.y.limits ?? roomy(low, high, this.log("y")) },
      },
      axes: [
        { ...axis, label: about.x.label, labelSize: 16, size: 26, splits: () => this.splits("x") },
        { ...axis, size: 48, splits: () => this.splits("y") },
      ],
      focus: { alpha: 0.25 },
      cursor: { y: false, drag: { x: true, y: true, uni: 24, setScale: false }, points: { size: 7 } },
      hooks: {
        setCursor: [() => chart.pointed(this)],
        setSelect: [() => chart.selected(this)],
        draw: [() => this.drawMarks(), () => this.drawErrors(), () => this.drawMoment()],
      },
    };
  }

  /** @param {number | null} low @param {number | null} high @returns {[number, number]} */
  across(low, high) {
    if (this.zoom.x) return this.zoom.x;
    const [from, to] = this.about.x.limits ?? (low === null ? [0, 1] : [low, /** @type {number} */ (high)]);
    if (this.log("x")) return [Math.max(from, low !== null && low > 0 ? low : to / 1000), to];
    return to > from ? [from, to] : [from - 0.5, from + 0.5];
  }

  /** @param {"x" | "y"} axis */
  splits(axis) {
    const { min, max } = this.u.scales[axis];
    if (min === undefined || max === undefined) return [];
    const size = axis === "x" ? (this.u.width - 64) / 60 : (this.u.height - 60) / 34;
    const places = this.log(axis) ? logTicks(min, max) : ticks(min, max, Math.max(3, Math.min(8, size)));
    return axis === "x" && this.about.x.whole ? places.filter(Number.isInteger) : places;
  }

  /** In other colours. */
  redraw() {
    this.u.redraw(true, false);
  }

  destroy() {
    this.u.destroy();
  }

  drawMarks() {
    const { u, chart } = this;
    const scale = devicePixelRatio;
    for (const { x, text, color } of this.about.marks) {
      const { min, max } = u.scales.x;
      if (min === undefined || max === undefined || x < min || x > max) continue;
      const at = u.valToPos(x, "x", true);
      u.ctx.save();
      u.ctx.strokeStyle = u.ctx.fillStyle = chart.ink.lit(color);
      u.ctx.setLineDash([2 * scale, 3 * scale]);
      u.ctx.beginPath();
      u.ctx.moveTo(at, u.bbox.top);
      u.ctx.lineTo(at, u.bbox.top + u.bbox.height);
      u.ctx.stroke();
      u.ctx.font = `${10 * scale}px system-ui, sans-serif`;
      u.ctx.textAlign = "left";
      u.ctx.fillText(text, at + 3 * scale, u.bbox.top + u.bbox.height - 4 * scale);
      u.ctx.restore();
    }
  }

  /** A bar from the lowest to the highest that a value may be. */
  drawErrors() {
    const { u, chart } = this;
    const scale = devicePixelRatio;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    this.about.series.forEach((/** @type {any} */ { name, color, role }, /** @type {number} */ k) => {
      if (role !== "values" || chart.hidden.has(name)) return;
      u.ctx.strokeStyle = chart.ink.lit(color);
      u.ctx.lineWidth = 1.5 * scale;
      u.ctx.beginPath();
      for (const [x, low, high] of errorBars(this.curves[k], this.log("y"))) {
        const [at, from, to] = [u.valToPos(x, "x", true), u.valToPos(low, "y", true), u.valToPos(high, "y", true)];
        for (const y of [from, to]) {
          u.ctx.moveTo(at - 4 * scale, y);
          u.ctx.lineTo(at + 4 * scale, y);
        }
        u.ctx.moveTo(at, from);
        u.ctx.lineTo(at, to);
      }
      u.ctx.stroke();
    });
    u.ctx.restore();
  }

  /** The place, on a curve, of its last point up to the round that is looked at; -1 if there is none. @param {number} k */
  now(k) {
    const { x, rounds } = this.curves[k];
    const of = rounds ?? (this.about.x.label === "round" ? x : null);
    return of === null || this.chart.at === null ? -1 : lastAt(of, this.chart.at);
  }

  /** Another round is looked at. */
  seek() {
    this.u.redraw(false, false);
  }

  /** The round that is looked at: a line across, a dot on each curve; and a ring where a fork left its parent. */
  drawMoment() {
    const { u, chart } = this;
    const scale = devicePixelRatio;
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    if (chart.at !== null && this.about.x.label === "round" && this.about.series.length) {
      const at = u.valToPos(chart.at, "x", true);
      [u.ctx.strokeStyle, u.ctx.lineWidth] = [chart.ink.text, scale];
      u.ctx.strokeRect(at, top, 0, height);
    }
    const mark = (/** @type {number} */ x, /** @type {number} */ y, /** @type {string} */ fill, /** @type {string} */ stroke) => {
      if (!Number.isFinite(y) || (this.log("y") && y <= 0)) return;
      u.ctx.beginPath();
      u.ctx.arc(u.valToPos(x, "x", true), u.valToPos(y, "y", true), 4.5 * scale, 0, 2 * Math.PI);
      [u.ctx.fillStyle, u.ctx.strokeStyle, u.ctx.lineWidth] = [fill, stroke, 1.75 * scale];
      u.ctx.fill();
      u.ctx.stroke();
    };
    this.about.series.forEach((/** @type {any} */ { name, color, forked }, /** @type {number} */ k) => {
      if (chart.hidden.has(name)) return;
      const { x, y } = this.curves[k];
      if (forked !== undefined && x.length) mark(forked, heightAt(x, y, forked), chart.ink.paper, chart.ink.lit(color));
      const now = this.now(k);
      if (now >= 0) mark(x[now], y[now], chart.ink.lit(color), chart.ink.paper);
    });
    u.ctx.restore();
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    if (width > 0 && (width !== this.u.width || height !== this.u.height)) this.u.setSize({ width, height });
  }

  /** The name of the curve below the pointer; empty if none is near. */
  under() {
    const { idx, top } = this.u.cursor;
    if (idx === null || idx === undefined || top === undefined) return "";
    const heights = this.about.series.flatMap((/** @type {any} */ { name }, /** @type {number} */ k) => {
      const value = this.u.data[this.lines[k]]?.[idx];
      const shown = this.u.series[this.lines[k]].show && value !== null && value !== undefined;
      return shown ? [{ height: this.u.valToPos(/** @type {number} */ (value), "y"), what: name }] : [];
    });
    return nearest(heights, top, REACH) ?? "";
  }

  /**
   * Of a curve, the value at x: of the last point at it or before it.
   * @param {string} name
   * @param {number | null} x null: that of the round that is looked at, the last of all
   */
  valueOf(name, x) {
    const k = this.about.series.findIndex((/** @type {any} */ series) => series.name === name);
    if (k < 0 || !this.curves[k].x.length) return undefined;
    const { x: xs, y } = this.curves[k];
    if (x === null) return this.chart.at === null || (!this.curves[k].rounds && this.about.x.label !== "round") ? y[y.length - 1] : y[this.now(k)];
    if (x < xs[0]) return undefined;
    const at = closest(xs, x);
    return y[xs[at] > x && !this.near(xs[at], x) ? at - 1 : at];
  }

  /** @param {number} a @param {number} b */
  near(a, b) {
    return Math.abs(a - b) <= 1e-9 * Math.max(Math.abs(a), Math.abs(b));
  }

  /** Show the crosshair at x, unless the pointer is here. @param {number | null} x */
  follow(x) {
    if (this.u.over.matches(":hover")) return;
    const left = x === null ? -10 : this.u.valToPos(x, "x");
    this.u.setCursor({ left, top: x === null ? -10 : 5 }, false);
  }

  /** @param {string} name */
  bringForward(name) {
    const shown = !this.chart.hidden.has(name);
    const k = shown ? this.about.series.findIndex((/** @type {any} */ series) => series.name === name) : -1;
    this.u.setSeries(k < 0 ? null : this.lines[k], { focus: true }, false);
  }

  /** @param {Set<string>} hidden */
  hide(hidden) {
    this.u.series.forEach((series, k) => {
      const show = !hidden.has(String(series.label));
      if (k && series.show !== show) this.u.setSeries(k, { show }, false);
    });
    this.bringForward(this.chart.forward); // the pointer rests on the one that was hidden: the others are not to be faint
  }
}
