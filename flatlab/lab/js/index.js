// @ts-check
// What anywidget loads: a store for each model, a chart for each of its views.

import { Chart } from "./chart.js";
import { keepKeys } from "./keys.js";
import { makeStore } from "./store.js";

export default () => {
  /** @type {any} */ let store;
  return {
    initialize({ model }) {
      keepKeys();
      store = makeStore(model);
    },
    render({ model, el }) {
      return new Chart(model, store, el).undo;
    },
  };
};
