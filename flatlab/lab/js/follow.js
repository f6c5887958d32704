// @ts-check
// What a chart hears of: its model, the time line, other charts, the size and the theme of the page.

import { LINK, LIT, ROUND } from "./link.js";
import { save } from "./page.js";
import { inksOf } from "./theme.js";

const THEME = ["class", "style", "data-jp-theme-name", "data-jp-theme-light"];

/** Have a chart hear of what changes; what is returned ends that. @param {any} chart */
export function listen(chart) {
  const undo = [toModel(chart), toPage(chart), toSize(chart)];
  return () => {
    undo.forEach((end) => end());
    chart.card.close();
    chart.plots.forEach((/** @type {any} */ plot) => plot.destroy());
  };
}

/** @param {any} chart */
function toModel(chart) {
  const { model, store } = chart;
  /** @type {Record<string, (...said: any[]) => void>} */
  const heard = {
    "change:hidden": () => {
      chart.plots.forEach((/** @type {any} */ plot) => plot.hide(chart.hidden));
      chart.values();
    },
    "change:log": () => chart.build(),
    "change:smooth": () => (chart.shape() === chart.built ? chart.later() : chart.build()),
    "change:height": () => chart.fit(),
    "change:at": () => chart.seek(model.get("at")),
    "msg:custom": (said, buffers) => {
      if (said.kind === "file") save(new Blob([buffers[0]]), said.format);
      else if (said.kind === "card") chart.card.heard(said, buffers);
    },
  };
  for (const [event, act] of Object.entries(heard)) model.on(event, act);
  const watcher = (/** @type {boolean} */ anew) => (anew && chart.shape() !== chart.built ? chart.build() : chart.later());
  store.watchers.add(watcher);
  return () => {
    for (const [event, act] of Object.entries(heard)) model.off(event, act);
    store.watchers.delete(watcher);
  };
}

/** @param {any} chart */
function toPage(chart) {
  /** @type {Record<string, (event: any) => void>} */
  const heard = {
    [LINK]: ({ detail }) => {
      chart.near = detail;
      for (const plot of chart.plots) plot.follow(detail && detail.axis === plot.about.x.label ? detail.x : null);
      chart.values();
    },
    [LIT]: ({ detail }) => {
      if (detail.what !== "run") return;
      const ids = detail.who.split(" ");
      const one = chart.series.find((/** @type {any} */ { run }) => run && run.split(" ").some((/** @type {string} */ id) => ids.includes(id)));
      chart.bringForward(detail.who && one ? one.name : "");
    },
    [ROUND]: ({ detail }) => {
      if (chart.shows(detail.run)) chart.seek(detail.round);
    },
  };
  for (const [event, act] of Object.entries(heard)) document.addEventListener(event, act);
  return () => {
    for (const [event, act] of Object.entries(heard)) document.removeEventListener(event, act);
  };
}

/** @param {any} chart */
function toSize(chart) {
  const dress = () => {
    const now = inksOf(chart.root);
    if (now.text === chart.ink.text && now.paper === chart.ink.paper) return;
    chart.ink = now;
    chart.plots.forEach((/** @type {any} */ plot) => plot.redraw());
    chart.values();
  };
  const sized = new ResizeObserver(() => {
    chart.fit();
    dress(); // the first time, the root has come onto the page
  });
  sized.observe(chart.row);
  requestAnimationFrame(() => {
    const view = chart.root.closest(".flatlab-view"); // known once the root is on the page
    if (view) sized.observe(view);
  });
  const dressed = new MutationObserver(() => requestAnimationFrame(dress));
  for (const one of [document.body, document.documentElement])
    dressed.observe(one, { attributes: true, attributeFilter: THEME });
  return () => {
    sized.disconnect();
    dressed.disconnect();
  };
}
