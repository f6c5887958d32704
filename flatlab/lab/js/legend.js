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
    for (const { about } of plots) element("th", "", head, about.y.label);
    const body = element("tbody", "", this.table);
    const names = [...new Set(plots.flatMap((/** @type {any} */ { about }) => about.series.map((/** @type {any} */ one) => one.name)))];
    this.names = /** @type {string[]} */ (names);
    this.lines = this.names.map((name) => this.line(name, body, plots));
  }

  /** @param {string} name @param {Element} body @param {any[]} plots */
  line(name, body, plots) {
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
    return { name, series: series[0], row, toggle, swatch, cells: plots.map((plot) => [plot, element("td", "", row)]) };
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
    const { ink, hidden, plots } = this.chart;
    this.when.textContent = x === null || !plots.length ? "last" : `${plots[0].about.x.label} ${digits(x)}`;
    for (const { name, series, row, toggle, swatch, cells } of this.lines) {
      row.classList.toggle("flatlab-chart-off", hidden.has(name));
      row.classList.toggle("flatlab-chart-lit", name === forward);
      toggle.setAttribute("aria-pressed", String(!hidden.has(name)));
      swatch.style.borderTop = `3px ${borderOf(series.dash)} ${ink.lit(series.color)}`;
      for (const [plot, cell] of cells) cell.textContent = digits(plot.valueOf(name, x));
    }
  }
}
