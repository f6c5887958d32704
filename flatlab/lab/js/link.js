// @ts-check
// What the pointer rests on, told to everything on the page that shows the same: runs, clients.

export const LIT = "flatlab-lit";
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
