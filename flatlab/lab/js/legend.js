// @ts-check
// Below the plots: a line for each name, with its value in each plot at the crosshair, or the last one.

import { digits } from "./numbers.js";
import { borderOf, element } from "./page.js";

export class Legend {
  /** @param {any} chart the view it is part of @param {Element} parent */
  constructor(chart, parent) {
    this.chart = chart;
    this.table = element("table", "flatlab-chart-legend", parent);
    /** @type {any[]} */ this.lines = [];
    /** @type {Set<string>} what was hidden before the latest click */ this.before = new Set();
    this.when = element("th", "", this.table);
  }

  /** Lines for the names there are now. */
  build() {
    const { plots } = this.chart;
    this.table.replaceChildren();
    const head = element("tr", "", element("thead", "", this.table));
    this.when = element("th", "", head);
    const columns = columnsOf(plots);
    for (const { label } of columns) element("th", "", head, label);
    const body = element("tbody", "", this.table);
    const names = [...new Set(plots.flatMap((/** @type {any} */ { about }) => about.series.map((/** @type {any} */ one) => one.name)))];
    this.names = /** @type {string[]} */ (names);
    this.lines = this.names.map((name) => this.line(name, body, plots, columns));
  }

  /** @param {string} name @param {Element} body @param {any[]} plots @param {{label: string, plots: any[]}[]} columns */
  line(name, body, plots, columns) {
    const row = element("tr", "", body);
    const label = element("td", "", row);
    const toggle = element("button", "flatlab-chart-name", label);
    toggle.type = "button";
    toggle.title = "Click: hide or show. Double-click: this one alone, or all.";
    const swatch = element("span", "flatlab-chart-swatch", toggle);
    toggle.append(name);
    const series = plots.flatMap(({ about }) => about.series.filter((/** @type {any} */ one) => one.name === name));
    const notes = [...new Set(series.map((one) => one.note.trim()).filter(Boolean))];
    if (notes.length) element("span", "flatlab-chart-note", label, ` ${notes.join(" ")}`);
    toggle.onclick = (event) => this.clicked(name, event.detail === 2);
    row.onmouseenter = () => this.chart.pointAt(name);
    row.onmouseleave = () => this.chart.pointAt("");
    return { name, series: series[0], row, toggle, swatch, cells: columns.map((column) => [column.plots.find((plot) => has(plot, name)) ?? column.plots[0], element("td", "", row)]) };
  }

  /** @param {string} name @param {boolean} twice */
  clicked(name, twice) {
    const names = /** @type {string[]} */ (this.names);
    if (twice) {
      // Its first click has switched this one already.
      const alone = this.before.size === names.length - 1 && !this.before.has(name);
      return this.chart.set("hidden", alone ? [] : names.filter((other) => other !== name));
    }
    this.before = new Set(this.chart.hidden);
    const hidden = new Set(this.before);
    if (!hidden.delete(name)) hidden.add(name);
    this.chart.set("hidden", [...hidden]);
  }

  /** The values at the crosshair; null: the last ones. @param {number | null} x @param {string} forward */
  update(x, forward) {
    const { ink, hidden, plots, weight } = this.chart;
    const last = this.chart.at !== null ? `round ${this.chart.at}` : plots[0] ? lastOf(plots[0].about, plots[0].curves) : "last";
    const place = x === null || !plots.length ? last : `${plots[0].about.x.label} ${digits(x)}`;
    this.when.textContent = weight > 0 ? `${place}, smoothed` : place;
    for (const { name, series, row, toggle, swatch, cells } of this.lines) {
      row.classList.toggle("flatlab-chart-off", hidden.has(name));
      row.classList.toggle("flatlab-chart-lit", name === forward);
      toggle.setAttribute("aria-pressed", String(!hidden.has(name)));
      swatch.style.borderTop = `3px ${borderOf(series.dash)} ${ink.lit(series.color)}`;
      for (const [plot, cell] of cells) cell.textContent = digits(plot.valueOf(name, x));
    }
  }
}

/** Whether a plot shows something of that name. @param {any} plot @param {string} name */
function has({ about }, name) {
  return about.series.some((/** @type {any} */ one) => one.name === name);
}

/**
 * What the values are that stand there while nobody points: of values of a setting, the greatest is no last one.
 * @param {any} about @param {{x: ArrayLike<number>}[]} [curves]
 */
export function lastOf({ x, series }, curves = []) {
  const setting = x.label !== "round" && !x.label.includes(":") && series.length > 0 && series.every((/** @type {any} */ { role }) => role === "values");
  return setting ? `${x.label} ${digits(Math.max(...curves.flatMap((curve) => Array.from(curve.x))))}` : "last";
}

/**
 * A column for each plot; one for all where each name stands in a plot of its own: the rest would be empty.
 * @param {any[]} plots
 * @returns {{label: string, plots: any[]}[]}
 */
export function columnsOf(plots) {
  const named = plots.map(({ about }) => about.series.map((/** @type {any} */ { name }) => name));
  const apart = plots.length > 1 && named.every((names) => names.length === 1) && new Set(named.flat()).size === plots.length;
  if (!apart) return plots.map((plot) => ({ label: plot.about.y.label, plots: [plot] }));
  const rest = new Set(plots.map(({ about }, k) => about.y.label.replace(named[k][0], "").replace(/^[:\s]+/, "")));
  return [{ label: rest.size === 1 ? [...rest][0] : "", plots }];
}
