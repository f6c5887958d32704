// @ts-check
// The lines of the table of runs. Of many only those are made that are seen, and some above and below.

import { borderOf, button, element } from "./page.js";
import { light } from "./link.js";
import { shownIn } from "./rows.js";
import { editable, spark } from "./runs_cells.js";

const MANY = 60; // lines: so many are all made
const BEYOND = 12; // of more, how many above and below those that are seen

/**
 * @typedef {object} Look what a line is drawn from
 * @property {any} line its runs
 * @property {string[]} keys of the columns
 * @property {Set<string>} shown ids of the runs in the views
 * @property {any} curves by run
 * @property {boolean} open whether its seeds are listed below it
 * @property {boolean} inside whether it is one of those
 */

export class Rows {
  /** @param {any} table */
  constructor(table) {
    this.table = table;
    this.high = 25; // pixels of a line
    /** @type {Look[]} */ this.looks = [];
    /** @type {HTMLElement[]} those made, by their places */ this.made = [];
    /** @type {[number, number] | null} from which to which they are made */ this.span = null;
    this.body = document.createElement("tbody");
    this.ends = ["above", "below"].map(() => document.createElement("tr"));
    this.ends.forEach((end) => end.setAttribute("aria-hidden", "true"));
  }

  /** Lines in their order, of a table that is scrolled so far. @param {Look[]} looks @param {number} top */
  show(looks, top) {
    [this.looks, this.made, this.span] = [looks, [], null];
    this.body = document.createElement("tbody");
    this.scrolled(top);
    return this.body;
  }

  /** Make what is seen. @param {number} top */
  scrolled(top) {
    const all = this.looks.length;
    const seen = [Math.floor(top / this.high), Math.ceil((top + parseFloat(this.table.frame.style.maxHeight)) / this.high)];
    const wanted = (/** @type {number} */ more) => /** @type {[number, number]} */ (
      all > MANY ? [Math.max(0, Math.min(seen[0], all - 1) - more), Math.min(all, seen[1] + more)] : [0, all]);
    const [needed, span] = [wanted(BEYOND / 2), wanted(BEYOND)];
    if (this.span && this.span[0] <= needed[0] && this.span[1] >= needed[1]) return;
    this.span = span;
    const rows = this.looks.slice(...span).map((look, k) => (this.made[span[0] + k] ??= this.row(look)));
    [span[0], all - span[1]].forEach((left, k) => (this.ends[k].style.height = `${left * this.high}px`));
    const now = all > MANY ? [this.ends[0], ...rows, this.ends[1]] : rows;
    // What stays is not moved: the keyboard may be there.
    const gone = Array.from(this.body.children).filter((row) => !now.includes(/** @type {any} */ (row)));
    gone.forEach((row) => row.remove());
    let next = this.body.firstElementChild;
    for (const row of now) {
      if (row === next) next = next.nextElementSibling;
      else this.body.insertBefore(row, next);
    }
    this.high = rows[0]?.offsetHeight || this.high;
  }

  /** @param {Look} look @returns {HTMLElement} */
  row({ line, keys, shown, curves, open, inside }) {
    const { table } = this;
    const { members, key } = line;
    const ids = members.map((/** @type {any} */ { id }) => id);
    const own = table.model.get("own");
    const row = document.createElement("tr");
    row.className = inside ? "flatlab-runs-inside" : "";
    row.dataset.runs = key;
    row.onmouseenter = () => light("run", key);
    row.onmouseleave = () => light("run", "");
    const check = element("input", "", element("td", "", row));
    const there = ids.filter((/** @type {string} */ id) => shown.has(id)).length;
    Object.assign(check, { type: "checkbox", checked: there > 0, disabled: ids.length === 1 && ids[0] === own });
    check.indeterminate = there > 0 && there < ids.length;
    check.title = check.disabled ? "The run of this bench" : "Show in the views";
    check.setAttribute("aria-label", `Show ${members[0].name} in the views`);
    check.dataset.key = `check ${key}`;
    check.onchange = () => {
      const others = table.model.get("shown").filter((/** @type {string} */ id) => !ids.includes(id));
      table.set("shown", there < ids.length ? [...others, ...ids.filter((/** @type {string} */ id) => id !== own)] : others);
    };
    this.name(row, line, open, ids.includes(own));
    spark(element("td", "", row), ids.map((/** @type {string} */ id) => curves[id]).filter(Boolean), this.look(members), table.ink);
    for (const column of keys) this.cell(row, line, column);
    const acts = element("td", "flatlab-runs-acts", row);
    if (ids.length === 1 && ids[0] !== own)
      button(acts, "Take up", "Go on with this run", () => table.ask("open", { run: ids[0] })).dataset.key = `open ${key}`;
    const gone = ids.filter((/** @type {string} */ id) => id !== own);
    if (gone.length)
      button(acts, "Delete", gone.length > 1 ? `Delete these ${gone.length} runs; Undo brings them back` : "Delete; Undo brings it back",
        () => table.ask("delete", { runs: gone })).dataset.key = `delete ${key}`;
    return row;
  }

  /** How the curve of runs on one line looks, if one of them is shown. @param {any[]} members */
  look(members) {
    return members.map(({ id }) => this.table.model.get("looks")[id]).find(Boolean);
  }

  /** @param {Element} row @param {any} line @param {boolean} open @param {boolean} own */
  name(row, { members, key }, open, own) {
    const { table } = this;
    const cell = element("td", "flatlab-runs-name", row);
    const look = this.look(members);
    const swatch = element("span", "flatlab-chart-swatch", cell);
    swatch.style.borderTop = look ? `3px ${borderOf(look.dash)} ${table.ink.lit(look.color)}` : `1px solid ${table.ink.grid}`;
    if (members.length > 1) {
      const listed = (table.view.open ?? []).filter((/** @type {string} */ one) => one !== key);
      const fold = button(cell, open ? "▾" : "▸", "Show each seed", () => table.look({ open: open ? listed : [...listed, key] }));
      fold.setAttribute("aria-expanded", String(open));
      fold.dataset.key = `fold ${key}`;
    }
    const text = element("span", own ? "flatlab-runs-own" : "", cell, members[0].name);
    text.title = members.map((/** @type {any} */ { id }) => id).join("\n");
    if (members.length > 1) text.append(` × ${members.length}`);
    else editable(table, cell, text, members[0], "label", members[0].label, members[0].name);
  }

  /** @param {Element} row @param {any} line @param {string} key */
  cell(row, line, key) {
    const { members } = line;
    const { value, text } = shownIn(line, key, Date.now() / 1000);
    const cell = element("td", key === "note" ? "flatlab-runs-note" : typeof value === "number" ? "flatlab-runs-number" : "", row);
    const shown = element("span", "", cell, text);
    if (key === "date") cell.title = new Date(1000 * value).toLocaleString();
    if (key === "note" && members.length === 1) editable(this.table, cell, shown, members[0], "note", value ?? "", "a note");
    if (text === "–" && (key === "personalized" || key === "gain")) cell.title = "Not measured: Fine-tune in the tab Personalization";
    if (text === "–" && key === "λ₁") cell.title = "Not measured: Top k in the tab Hessian";
  }
}
