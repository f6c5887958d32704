// @ts-check
// The runs of a store as a table: what is in it comes from the kernel, how it is looked at is decided here.

import { button, element } from "./page.js";
import { columnsOf, found, linesOf, longest, sorted, titleOf } from "./rows.js";
import { LIT } from "./link.js";
import { Rows } from "./runs_row.js";
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
    this.rows = new Rows(this);
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
    this.frame.onscroll = () => {
      if (!this.busy) this.rows.scrolled(this.frame.scrollTop);
      this.bring(this.lit);
    };
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
    const keys = columnsOf(filtering || !chosen.length ? rows : chosen); // a condition stays where it is being typed
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
    this.table.hidden = !rows.length;
    const head = this.head(keys, sort, filtering ? filters : null, lines);
    const looks = lines.flatMap((line) => {
      const open = line.members.length > 1 && (this.view.open ?? []).includes(line.key);
      const inside = open ? line.members.map((row) => ({ line: { key: row.id, members: [row] }, open: false, inside: true })) : [];
      return [{ line, open, inside: false }, ...inside];
    });
    const body = this.rows.show(looks.map((look) => ({ ...look, keys, shown, curves })), at[1]);
    if (!lines.length && rows.length) element("td", "", element("tr", "", body), "No run fits.").colSpan = keys.length + 4;
    this.table.setAttribute("aria-rowcount", String(looks.length + 1));
    this.table.replaceChildren(head, body);
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

  /** @param {string[]} keys @param {any[]} sort @param {Record<string, string> | null} filters @param {any[]} lines */
  head(keys, [by, direction], filters, lines) {
    const head = document.createElement("thead");
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
    // As wide as what is longest in them, whichever lines are seen.
    const sizes = element("tr", "flatlab-runs-sizes", head);
    sizes.setAttribute("aria-hidden", "true");
    for (const [key] of columns) element("td", key === "name" ? "flatlab-runs-name" : "", sizes, key && longest(lines, key, Date.now() / 1000));
    if (!filters) return head;
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
    return head;
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
