// @ts-check
// Small things of a page. Names come from users: they only ever become text.

/** Lengths of the dashes of a line, in pixels, by their name in `Series`; none for "-". @type {Record<string, number[]>} */
export const DASHES = {
  "--": [6, 3], ":": [2, 3], "-.": [6, 3, 2, 3], "-..": [6, 3, 2, 3, 2, 3], "--.": [6, 3, 6, 3, 2, 3], _: [12, 3],
  "_.": [12, 3, 2, 3], none: [0, 9],
};

/** What a border looks like beside such a line. @param {string | undefined} dash */
export function borderOf(dash) {
  return dash === "-" ? "solid" : dash === ":" || dash === "none" ? "dotted" : "dashed";
}

/**
 * A new element at the end of another.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} className
 * @param {Element} parent
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, className, parent, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

/**
 * A button that says what it does when the pointer rests on it.
 * @param {Element} parent
 * @param {string} text
 * @param {string} hint
 * @param {() => void} act
 */
export function button(parent, text, hint, act) {
  const made = element("button", "flatlab-chart-button", parent, text);
  made.type = "button";
  made.title = hint;
  made.onclick = act;
  return made;
}

/**
 * Put a file into the person's downloads.
 * @param {Blob} blob
 * @param {string} suffix
 */
export function save(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `flatlab.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
