// @ts-check
// What stands in for the kernel on a saved page: a model that holds what the page brought, and numbers out of JSON.

/** A model as views take it. What they set stays here; what they send goes nowhere. */
export class Still {
  /** @param {Record<string, any>} values */
  constructor(values) {
    this.values = values;
    this.still = true; // views leave out what only a kernel can do
    /** @type {Map<string, Set<() => void>>} */ this.heard = new Map();
  }

  /** @param {string} name */
  get(name) {
    return this.values[name];
  }

  /** @param {string} name @param {any} value */
  set(name, value) {
    if (Object.is(this.values[name], value)) return;
    this.values[name] = value;
    for (const act of this.heard.get(`change:${name}`) ?? []) act();
  }

  /** @param {string} events separated by blanks @param {() => void} act */
  on(events, act) {
    for (const event of events.split(" ")) this.heard.set(event, (this.heard.get(event) ?? new Set()).add(act));
  }

  /** @param {string} events @param {() => void} act */
  off(events, act) {
    for (const event of events.split(" ")) this.heard.get(event)?.delete(act);
  }

  save_changes() {}

  send() {}
}

/**
 * Columns as a page writes them: numbers, null for NaN, text for what JSON has no number for; or, in place of a column,
 * the place of an earlier one that is the same.
 * @param {(number | (number | string | null)[])[]} written
 * @returns {Float64Array[]}
 */
export function columnsOf(written) {
  /** @type {Float64Array[]} */
  const columns = [];
  for (const one of written)
    columns.push(typeof one === "number" ? columns[one] : Float64Array.from(one, (cell) => (cell === null ? NaN : Number(cell))));
  return columns;
}

/** What a chart's model holds. @param {any} part of the page */
export function chartValues(part) {
  const columns = columnsOf(part.columns);
  const sizes = columns.map(({ length }) => length);
  const numbers = new Float64Array(sizes.reduce((a, b) => a + b, 0));
  let at = 0;
  for (const column of columns) {
    numbers.set(column, at);
    at += column.length;
  }
  return { at: null, hidden: [], log: "", smooth: 0, height: 300, ...part.look, about: part.about, sizes, numbers: new DataView(numbers.buffer) };
}

/** What a landscape's model holds. @param {any} part of the page */
export function landscapeValues(part) {
  const bytes = Uint8Array.from(atob(part.grids), (sign) => sign.charCodeAt(0));
  return { at: null, runs: [], cursor: [], ...part.look, panels: part.panels, caption: part.caption, grids: new DataView(bytes.buffer) };
}
