// @ts-check
// A saved page: puts charts, landscapes and the time line where the page has room for them. Nothing is fetched.

import { Chart } from "./chart.js";
import { Still, chartValues, landscapeValues } from "./still.js";
import { makeStore } from "./store.js";

/** @type {any} */ const here = globalThis; // other views' scripts stand before this one, and leave their `render` there
const page = JSON.parse(document.getElementById("flatlab")?.textContent ?? "{}");

/** Light or dark: as the system has it, until somebody chooses. */
function dress() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const wear = (/** @type {boolean} */ dark) => {
    root.classList.toggle("dark", dark);
    root.classList.toggle("light", !dark);
    document.body.dataset.jpThemeLight = String(!dark); // what the views watch
  };
  wear(system.matches);
  system.addEventListener("change", () => wear(system.matches));
  document.getElementById("theme")?.addEventListener("click", () => wear(!root.classList.contains("dark")));
}

function offerCode() {
  const [button, code] = [document.getElementById("copy"), document.getElementById("code")];
  button?.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code?.textContent ?? "");
      button.textContent = "Copied";
    } catch {
      getSelection()?.selectAllChildren(/** @type {Node} */ (code));
      button.textContent = "Selected: press Ctrl-C";
    }
  });
}

/** Above all parts: plays the rounds. */
function offerTime() {
  const el = document.getElementById("time");
  if (el) here.flatlabTimeLine({ model: new Still({ disabled: false, loop: false, formats: [], moving: false, value: page.time.max, ...page.time }), el });
}

dress();
offerCode();
here.flatlabModels = page.parts.map((/** @type {any} */ part, /** @type {number} */ k) => {
  const el = /** @type {HTMLElement} */ (document.getElementById(`part-${k}`));
  if (part.kind === "picture") return null;
  const model = new Still(part.kind === "chart" ? chartValues(part) : part.kind === "landscape" ? landscapeValues(part) : part);
  if (part.kind === "chart") new Chart(model, makeStore(model), el);
  else (part.kind === "landscape" ? here.flatlabLandscape : here.flatlabPulls)({ model, el });
  return model;
});
offerTime();
