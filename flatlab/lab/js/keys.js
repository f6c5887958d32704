// @ts-check
// A notebook takes arrow keys from whatever in its outputs has the keyboard, unless that element itself says otherwise.

const MOVING = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"]);
const MOVED = "select, input[type=range], input[type=radio], .noUi-handle, [role=tab], .lm-TabBar-tab, canvas[tabindex]";
const SAYS = "data-lm-suppress-shortcuts"; // as JupyterLab reads it

/** Whether a key is for a control of ours, and not for the notebook. @param {string} key @param {Element} control */
export function isOurs(key, control) {
  return MOVING.has(key) && control.matches(MOVED) && control.closest(".flatlab-panel") !== null;
}

/** Have these keys reach their controls; all others stay the notebook's. Once a page. */
export function keepKeys() {
  const page = /** @type {any} */ (globalThis);
  if (page.flatlabKeys || !page.addEventListener) return;
  page.flatlabKeys = true;
  page.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const control = event.target;
    if (!(control instanceof Element) || !isOurs(event.key, control) || control.hasAttribute(SAYS)) return;
    control.setAttribute(SAYS, "true");
    setTimeout(() => control.removeAttribute(SAYS));
  }, true);
}
