// @ts-check
// A saved page: puts charts and landscapes where the page has room for them. No kernel, and nothing is fetched.

import { Chart } from "./chart.js";
import { Still, chartValues, landscapeValues } from "./still.js";
import { makeStore } from "./store.js";

/** @type {any} */ const here = globalThis; // the landscapes' script stands before this one, and leaves its `render` there
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

dress();
offerCode();
here.flatlabModels = page.parts.map((/** @type {any} */ part, /** @type {number} */ k) => {
  const el = /** @type {HTMLElement} */ (document.getElementById(`part-${k}`));
  if (part.kind === "picture") return null;
  const model = new Still(part.kind === "chart" ? chartValues(part) : landscapeValues(part));
  if (part.kind === "chart") new Chart(model, makeStore(model), el);
  else here.flatlabLandscape({ model, el });
  return model;
});
