// @ts-check
// What is in a line of the table of runs beside texts and numbers: a small curve, and texts that can be written anew.

import { decimated } from "./numbers.js";
import { DASHES, button, element } from "./page.js";
import { together } from "./rows.js";

const [WIDE, HIGH] = [92, 20]; // pixels of a small curve

/** A pencil that turns a text into a field. @param {any} table @param {Element} cell @param {HTMLElement} text @param {any} run @param {string} what @param {string} value @param {string} hint */
export function editable(table, cell, text, run, what, value, hint) {
  const edit = () => {
    const input = element("input", "", cell);
    table.busy = true;
    Object.assign(input, { type: "text", value, placeholder: hint });
    input.setAttribute("aria-label", what === "label" ? `Label of ${run.name}` : `Note on ${run.name}`);
    text.hidden = pencil.hidden = true;
    input.focus();
    input.select();
    let over = false;
    const end = (/** @type {boolean} */ keep) => {
      if (over) return;
      over = true;
      table.busy = false;
      if (keep && input.value !== value) table.ask("annotate", { run: run.id, [what]: input.value });
      table.draw();
      table.focus(pencil.dataset.key ?? "");
    };
    input.onblur = () => end(true);
    input.onkeydown = (event) => {
      event.stopPropagation(); // the notebook has keys of its own
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // else the same Enter presses the pencil, where the keyboard goes back to
      end(event.key === "Enter");
    };
  };
  const pencil = button(cell, "✎", what === "label" ? "Rename: a label, the id stays" : "Write a note", edit);
  pencil.classList.add("flatlab-runs-pencil");
  pencil.dataset.key = `${what} ${run.id}`;
  text.ondblclick = edit;
}

/** The accuracy of runs over rounds: their mean, with a band. @param {Element} cell @param {any[]} curves @param {any} look @param {any} ink */
export function spark(cell, curves, look, ink) {
  if (!curves.length || !curves[0].x.length) return;
  const { x, y, low, high } = together(curves);
  if (!x.length) return;
  const ends = [Math.min(...Array.from(low ?? y)), Math.max(...Array.from(high ?? y))];
  const [from, to] = [x[0], x[x.length - 1]];
  const place = (/** @type {ArrayLike<number>} */ values) => decimated(x.map((at, k) => [
    2 + (WIDE - 4) * (to > from ? (at - from) / (to - from) : 1),
    HIGH - 2 - (HIGH - 4) * (ends[1] > ends[0] ? (values[k] - ends[0]) / (ends[1] - ends[0]) : 0.5),
  ]));
  const path = (/** @type {[number, number][]} */ points) => `M${points.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["width", WIDE], ["height", HIGH], ["role", "img"]]) svg.setAttribute(String(name), String(value));
  svg.setAttribute("aria-label", `accuracy from ${y[0].toFixed(1)} to ${y[y.length - 1].toFixed(1)} %`);
  const color = look ? ink.lit(look.color) : ink.text;
  const draw = (/** @type {string} */ d, /** @type {Record<string, string>} */ attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
    for (const [name, value] of Object.entries({ d, ...attributes })) made.setAttribute(name, value);
    svg.append(made);
  };
  if (low && high) draw(`${path([...place(high), ...place(low).reverse()])}Z`, { fill: String(color), opacity: "0.2" });
  draw(path(place(y)), { fill: "none", stroke: String(color), "stroke-width": "1.5", "stroke-dasharray": DASHES[look?.dash]?.join(" ") ?? "" });
  cell.append(svg);
}
