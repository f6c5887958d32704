// @ts-check
// What the pointer rests on, told to everything on the page that shows the same: runs, clients.

export const LIT = "flatlab-lit";
export const LINK = "flatlab-crosshair"; // tells all charts of the page where the pointer is: which axis, which x
export const ROUND = "flatlab-round"; // a run's time line was moved: to which round; null: to its end
/** @type {Record<string, string>} */ const now = {};

/**
 * @param {"run" | "client"} what
 * @param {string} who which: ids separated by blanks, or the number of a client behind its population; "": nobody
 */
export function light(what, who) {
  if ((now[what] ?? "") === who) return;
  now[what] = who;
  document.dispatchEvent(new CustomEvent(LIT, { detail: { what, who } }));
}
