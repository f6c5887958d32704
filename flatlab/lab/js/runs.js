// @ts-check
// The runs of a store as a table: what is in it comes from the kernel, how it is looked at is decided here.

import { borderOf, button, element } from "./page.js";
import { ago, cellOf, columnsOf, found, linesOf, sorted, titleOf } from "./rows.js";
import { LIT, light } from "./link.js";
import { editable, spark } from "./runs_cells.js";
import { makeStore } from "./store.js";
import { inksOf } from "./theme.js";

const TALLER = 210; // pixels more for the table where somebody wants to see more of it
const HINT = "Search names, settings and notes; or conditions: rho>0.1 seed=0 accuracy>=90";

class RunTable {
  /** @param {any} model @param {any} store numbers of the small curves @param {Element} el */
  constructor(model, store, el) {
    this.model = model;
    this.store = store;
    /** @type {(() => void)[]} */ this.toggles = [];
    this.ink = inksOf(el);
    this.root = element("div", "flatlab-runs", el);
    this.root.setAttribute("data-lm-suppress-shortcuts", "true"); // space ticks a box, and does not turn the notebook's page
    this.busy = false; // somebody writes, or holds a button down: nothing may move
    this.waiting = 0;
    this.lit = "";
    const bar = element("div", "flatlab-runs-bar", this.root);
    element("b", "", bar, "Runs");
    this.search = element("input", "flatlab-runs-search", bar);
    Object.assign(this.search, { type: "search", placeholder: "Search, or rho>0.1 seed=0", title: HINT, value: this.view.search ?? "" });
    this.search.setAttribute("aria-label", "Search runs");
    this.search.oninput = () => this.look({ search: this.search.value });
    this.toggle(bar, "Group seeds", "Runs that differ in seeds alone as one line with their mean, here and in the curves",
      () => model.get("grouped"), () => this.set("grouped", !model.get("grouped")));
    this.toggle(bar, "Filter", "A condition for each column: >0.9, 0.1..0.5, =FedAvg, !=1, or a part of the text",
      () => this.view.filtering, () => this.look({ filtering: !this.view.filtering, filters: {} }));
    button(bar, "Look again", "Look into the store for new runs", () => this.ask("look"));
    this.toggle(bar, "Taller", "More lines of the table, less of the views", () => this.view.tall, () => this.look({ tall: !this.view.tall }));
    this.count = element("span", "flatlab-runs-count", bar);
    this.said = element("span", "flatlab-runs-said", bar);
    this.said.setAttribute("role", "status");
    this.frame = element("div", "flatlab-runs-frame", this.root);
    this.table = element("table", "", this.frame);
    this.table.setAttribute("aria-label", "Runs of the store");
    this.undo = this.listen();
    this.draw();
  }

  /** @returns {any} how it is looked at: search, filters, filtering, sort, open, tall */
  get view() {
    return this.model.get("view");
  }

  /** @param {string} name @param {any} value */
  set(name, value) {
    this.model.set(name, value);
    this.model.save_changes();
  }

  /** @param {any} changed */
  look(changed) {
    this.set("view", { ...this.view, ...changed });
  }

  /** @param {string} kind @param {any} [more] */
  ask(kind, more = {}) {
    this.model.send({ kind, ...more });
  }

  /** @param {Element} bar @param {string} text @param {string} hint @param {() => any} state @param {() => void} act */
  toggle(bar, text, hint, state, act) {
    const made = button(bar, text, hint, act);
    this.toggles.push(() => made.setAttribute("aria-pressed", String(Boolean(state()))));
  }

  listen() {
    const later = () => {
      this.waiting ||= requestAnimationFrame(() => {
        this.waiting = 0;
        if (this.busy) setTimeout(later, 300);
        else this.draw();
      });
    };
    const names = ["rows", "looks", "shown", "own", "grouped", "view", "undo", "problems"];
    for (const name of names) this.model.on(`change:${name}`, later);
    this.store.watchers.add(later);
    const lit = (/** @type {any} */ { detail }) => {
      if (detail.what === "run") this.bring(detail.who);
    };
    document.addEventListener(LIT, lit);
    this.root.onpointerdown = () => (this.busy = true);
    const free = () => (this.busy = Boolean(this.root.querySelector("td input[type=text]")));
    addEventListener("pointerup", free);
    const dressed = new MutationObserver(later);
    dressed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name"] });
    const placed = new ResizeObserver(later); // also once it has come onto the page
    placed.observe(this.root);
    return () => {
      for (const name of names) this.model.off(`change:${name}`, later);
      this.store.watchers.delete(later);
      document.removeEventListener(LIT, lit);
      removeEventListener("pointerup", free);
      dressed.disconnect();
      placed.disconnect();
    };
  }

  /** The small curves, by run. */
  curves() {
    /** @type {Record<string, {x: Float64Array, y: Float64Array}>} */ const byRun = {};
    let at = 0;
    for (const { run, columns } of this.store.about.plots[0]?.series ?? []) {
      byRun[run] = { x: this.store.columns[at].values(), y: this.store.columns[at + 1].values() };
      at += columns;
    }
    return byRun;
  }

  draw() {
    this.toggles.forEach((show) => show());
    this.ink = inksOf(this.root);
    const { sort = ["date", -1], search = "", filters = {}, filtering, tall } = this.view;
    const panel = /** @type {HTMLElement | null} */ (this.root.closest(".flatlab-panel"));
    panel?.style.setProperty("--flatlab-taller", `${tall ? TALLER : 0}px`);
    this.frame.style.maxHeight = `${100 + (tall ? TALLER : 0)}px`;
    const curves = this.curves();
    const rows = this.model.get("rows").map((/** @type {any} */ row) => {
      const curve = curves[row.id];
      const length = curve?.y.length ?? 0;
      const last = length ? curve.x[length - 1] : 0;
      return { ...row, round: Math.max(row.round, last), accuracy: length ? curve.y[length - 1] / 100 : null };
    });
    const chosen = found(rows, search, filters);
    const keys = columnsOf(chosen.length ? chosen : rows);
    const lines = sorted(linesOf(chosen, this.model.get("grouped")), sort[0], sort[1]);
    const problems = Object.entries(this.model.get("problems"));
    const shown = new Set([...this.model.get("shown"), this.model.get("own")].filter(Boolean));
    this.count.textContent = rows.length
      ? `${chosen.length === rows.length ? "" : `${chosen.length} of `}${rows.length} ${rows.length === 1 ? "run" : "runs"}, ${shown.size} shown`
      : "none in the store yet";
    if (problems.length) this.count.append(` · ⚠ ${problems.length} cannot be read`);
    this.count.title = problems.map(([name, why]) => `${name}: ${why}`).join("\n");
    this.tell();
    const active = /** @type {any} */ (this.table.contains(document.activeElement) ? document.activeElement : null);
    const [focus, caret] = [active?.dataset.key, active?.selectionStart];
    const at = [this.frame.scrollLeft, this.frame.scrollTop];
    this.table.replaceChildren();
    this.table.hidden = !rows.length;
    this.head(keys, sort, filtering ? filters : null);
    const body = element("tbody", "", this.table);
    for (const line of lines) {
      const open = line.members.length > 1 && (this.view.open ?? []).includes(line.key);
      this.line(body, line, keys, shown, curves, open);
      if (open) for (const row of line.members) this.line(body, { key: row.id, members: [row] }, keys, shown, curves, false, true);
    }
    if (!lines.length && rows.length) element("td", "", element("tr", "", body), "No run fits.").colSpan = keys.length + 4;
    [this.frame.scrollLeft, this.frame.scrollTop] = at;
    if (focus) this.focus(focus, caret);
    this.bring(this.lit);
  }

  /** Back to where the keyboard was before all was drawn anew. @param {string} key @param {number} [caret] */
  focus(key, caret) {
    const place = /** @type {any} */ (this.table.querySelector(`[data-key="${CSS.escape(key)}"]`));
    place?.focus({ preventScroll: true });
    if (place?.type === "text" && caret !== undefined) place.setSelectionRange(caret, caret);
  }

  /** What was deleted last, and the way back. */
  tell() {
    const what = this.model.get("undo");
    this.said.replaceChildren();
    if (!what) return;
    this.said.append(`Deleted ${what} `);
    button(this.said, "Undo", "Put it back; possible until the lab is closed", () => this.ask("undo"));
  }

  /** @param {string[]} keys @param {any[]} sort @param {Record<string, string> | null} filters */
  head(keys, [by, direction], filters) {
    const head = element("thead", "", this.table);
    const row = element("tr", "", head);
    const columns = [["", ""], ["name", "name"], ["", "accuracy over rounds"], ...keys.map((key) => [key, titleOf(key, keys)]), ["", ""]];
    for (const [key, title] of columns) {
      const cell = element("th", key === "name" ? "flatlab-runs-name" : "", row);
      cell.scope = "col";
      if (!key) {
        cell.setAttribute("aria-label", title || "actions");
        continue;
      }
      const mark = key === by ? (direction > 0 ? " ▴" : " ▾") : "";
      const turn = () => this.look({ sort: [key, key === by ? -direction : key === "name" ? 1 : -1] });
      const made = button(cell, title + mark, `${key}: sort by it`, turn);
      made.dataset.key = `sort ${key}`;
      if (key === by) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    }
    if (!filters) return;
    const below = element("tr", "", head);
    for (const [key, title] of columns) {
      const cell = element("th", key === "name" ? "flatlab-runs-name" : "", below);
      if (!key || key === "date") continue;
      const input = element("input", "flatlab-runs-filter", cell);
      Object.assign(input, { type: "text", value: filters[key] ?? "", title: "such as >0.9, 0.1..0.5, =FedAvg, !=1" });
      input.setAttribute("aria-label", `Filter ${title}`);
      input.dataset.key = `filter ${key}`;
      input.oninput = () => this.look({ filters: { ...filters, ...this.view.filters, [key]: input.value } });
    }
  }

  /**
   * @param {Element} body @param {any} line @param {string[]} keys @param {Set<string>} shown @param {any} curves
   * @param {boolean} open @param {boolean} [inside] of a group
   */
  line(body, line, keys, shown, curves, open, inside = false) {
    const { members, key } = line;
    const ids = members.map((/** @type {any} */ { id }) => id);
    const own = this.model.get("own");
    const row = element("tr", inside ? "flatlab-runs-inside" : "", body);
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
      const others = this.model.get("shown").filter((/** @type {string} */ id) => !ids.includes(id));
      this.set("shown", there < ids.length ? [...others, ...ids.filter((/** @type {string} */ id) => id !== own)] : others);
    };
    this.name(row, line, open, ids.includes(own));
    spark(element("td", "", row), ids.map((/** @type {string} */ id) => curves[id]).filter(Boolean), this.model.get("looks")[ids[0]], this.ink);
    for (const column of keys) this.cell(row, line, column);
    const acts = element("td", "flatlab-runs-acts", row);
    if (ids.length === 1 && ids[0] !== own)
      button(acts, "Take up", "Go on with this run", () => this.ask("open", { run: ids[0] })).dataset.key = `open ${key}`;
    const gone = ids.filter((/** @type {string} */ id) => id !== own);
    if (gone.length)
      button(acts, "Delete", gone.length > 1 ? `Delete these ${gone.length} runs; Undo brings them back` : "Delete; Undo brings it back",
        () => this.ask("delete", { runs: gone })).dataset.key = `delete ${key}`;
  }

  /** @param {Element} row @param {any} line @param {boolean} open @param {boolean} own */
  name(row, { members, key }, open, own) {
    const cell = element("td", "flatlab-runs-name", row);
    const look = this.model.get("looks")[members[0].id];
    const swatch = element("span", "flatlab-chart-swatch", cell);
    swatch.style.borderTop = look ? `3px ${borderOf(look.dash)} ${this.ink.lit(look.color)}` : `1px solid ${this.ink.grid}`;
    if (members.length > 1) {
      const listed = (this.view.open ?? []).filter((/** @type {string} */ one) => one !== key);
      const fold = button(cell, open ? "▾" : "▸", "Show each seed", () => this.look({ open: open ? listed : [...listed, key] }));
      fold.setAttribute("aria-expanded", String(open));
      fold.dataset.key = `fold ${key}`;
    }
    const text = element("span", own ? "flatlab-runs-own" : "", cell, members[0].name);
    text.title = members.map((/** @type {any} */ { id }) => id).join("\n");
    if (members.length > 1) text.append(` × ${members.length}`);
    else editable(this, cell, text, members[0], "label", members[0].label, members[0].name);
  }

  /** @param {Element} row @param {any} line @param {string} key */
  cell(row, line, key) {
    const { members } = line;
    const { value, text } = cellOf(line, key);
    const cell = element("td", key === "note" ? "flatlab-runs-note" : typeof value === "number" ? "flatlab-runs-number" : "", row);
    if (key === "date") {
      cell.textContent = ago(value, Date.now() / 1000);
      cell.title = new Date(1000 * value).toLocaleString();
    } else if (key === "rounds") {
      const rounds = [...new Set(members.map((/** @type {any} */ one) => (one.round < one.rounds ? `${one.round} of ${one.rounds}` : `${one.rounds}`)))];
      cell.textContent = rounds.length > 1 ? "…" : rounds[0];
    } else {
      const shown = element("span", "", cell, text);
      if (key === "note" && members.length === 1) editable(this, cell, shown, members[0], "note", value ?? "", "a note");
      if (text === "–" && (key === "personalized" || key === "gain")) cell.title = "Not measured: Fine-tune in the tab Personalization";
      if (text === "–" && key === "λ₁") cell.title = "Not measured: Top k in the tab Hessian";
    }
  }

  /** Light the line of a run. @param {string} who ids, separated by blanks */
  bring(who) {
    this.lit = who;
    const ids = who.split(" ");
    for (const row of /** @type {any} */ (this.table.querySelectorAll("tr[data-runs]")))
      row.classList.toggle("flatlab-chart-lit", who !== "" && row.dataset.runs.split(" ").some((/** @type {string} */ id) => ids.includes(id)));
  }
}

export default () => {
  /** @type {any} */ let store;
  return {
    initialize({ model }) {
      store = makeStore(model);
    },
    render({ model, el }) {
      return new RunTable(model, store, el).undo;
    },
  };
};
