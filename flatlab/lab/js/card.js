// @ts-check
// The card of a client: what the kernel knows of it, opened by a click on any of its marks.

import { button, element } from "./page.js";

export class Card {
  /** @param {any} model @param {any} chart whose colours it has */
  constructor(model, chart) {
    this.model = model;
    this.chart = chart;
    /** @type {HTMLElement | null} */ this.box = null;
    /** @type {number | null} */ this.client = null;
    /** @type {string[]} */ this.urls = [];
    this.back = /** @type {HTMLElement | null} */ (null); // where the keyboard was
  }

  /** @param {number} client @param {HTMLElement} place where it was clicked */
  open(client, place) {
    this.close();
    if (this.model.still) return; // nobody to ask
    this.client = client;
    this.back = /** @type {HTMLElement | null} */ (document.activeElement);
    this.box = element("div", "flatlab-card", document.body);
    this.box.setAttribute("role", "dialog");
    this.box.setAttribute("aria-label", `Client ${client}`);
    this.box.setAttribute("data-lm-suppress-shortcuts", "true");
    this.box.tabIndex = -1;
    this.box.onkeydown = (event) => event.stopPropagation();
    const { left, top, width } = place.getBoundingClientRect();
    const wide = Math.min(330, innerWidth - 16);
    const beside = left > innerWidth / 2 ? left - wide - 8 : left + width + 8;
    // In a window that is made smaller it stays in sight.
    const across = `max(8px, min(${beside}px, 100vw - ${wide + 8}px))`;
    Object.assign(this.box.style, { width: `${wide}px`, left: across, top: `max(8px, min(${top}px, 100vh - 480px))` });
    this.fill({ title: `Client ${client}`, facts: [], classes: [], hints: [] }, []);
    this.box.focus();
    this.outside = (/** @type {Event} */ event) => {
      if (!this.box?.contains(/** @type {Node} */ (event.target))) this.close();
    };
    setTimeout(() => this.outside && document.addEventListener("pointerdown", this.outside));
    this.escape = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && this.close();
    document.addEventListener("keydown", this.escape, true); // wherever the keyboard is: a page may take the focus away
    this.model.send({ kind: "card", client });
  }

  close() {
    if (this.outside) document.removeEventListener("pointerdown", this.outside);
    this.outside = undefined;
    if (this.escape) document.removeEventListener("keydown", this.escape, true);
    this.box?.remove();
    this.box = null;
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    if (this.client !== null) this.back?.focus?.({ preventScroll: true });
    this.client = null;
  }

  /** What the kernel answers. @param {any} said @param {DataView[]} buffers */
  heard(said, buffers) {
    if (said.client === this.client && this.box) this.fill(said, buffers);
  }

  /** @param {any} about @param {DataView[]} images */
  fill(about, images) {
    const box = /** @type {HTMLElement} */ (this.box);
    const focused = box.contains(document.activeElement);
    box.replaceChildren();
    const head = element("div", "flatlab-card-head", box);
    element("b", "", head, about.title);
    button(head, "✕", "Close", () => this.close()).setAttribute("aria-label", "Close");
    this.image(box, images[0], `Images of client ${about.client}`);
    const most = Math.max(1, ...about.classes.map(([, count]) => count));
    if (about.classes.length) {
      const mix = element("div", "flatlab-card-mix", box);
      mix.setAttribute("role", "img");
      mix.setAttribute("aria-label", about.classes.map(([name, count]) => `class ${name}: ${count}`).join(", "));
      for (const [name, count, color] of about.classes) {
        element("span", "", mix, name);
        const bar = element("span", "flatlab-card-bar", mix);
        Object.assign(bar.style, { background: this.chart.ink.lit(color), width: `${(150 * count) / most}px` });
        element("span", "", mix, String(count));
      }
    }
    const list = element("dl", "", box);
    for (const [name, text] of about.facts) {
      element("dt", "", list, name);
      element("dd", "", list, text);
    }
    if (about.right) element("div", "", box, about.right);
    this.image(box, images[1], "Test images that tuning put right");
    for (const hint of about.hints) element("div", "flatlab-card-hint", box, hint);
    if (about.hints.some((/** @type {string} */ hint) => hint.includes("Measure")))
      button(box, about.busy || "Measure", "Fine-tune a copy for this client, and look at its test images before and after", () => {
        this.model.send({ kind: "measure", client: this.client });
        this.fill({ ...about, busy: "Measuring …" }, images);
      }).disabled = Boolean(about.busy);
    if (focused) box.focus();
  }

  /** @param {Element} box @param {DataView | undefined} bytes @param {string} told */
  image(box, bytes, told) {
    if (!bytes?.byteLength) return;
    const url = URL.createObjectURL(new Blob([/** @type {any} */ (bytes)], { type: "image/png" }));
    this.urls.push(url);
    const image = element("img", "", box);
    [image.src, image.alt] = [url, told];
  }
}
