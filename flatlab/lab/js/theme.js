// @ts-check
// Colours of the page a chart stands on, and a run's colour on it.

/**
 * What to write with on this page.
 * @param {Element} root
 */
export function inksOf(root) {
  const seen = getComputedStyle(root.isConnected ? root : document.body);
  const parts = (seen.color.match(/[\d.]+/g) ?? ["0", "0", "0"]).slice(0, 3).map(Number);
  const dark = parts[0] + parts[1] + parts[2] > 384; // light ink
  const ink = (/** @type {number} */ alpha) => `rgba(${parts.join(",")},${alpha})`;
  const lit = (/** @type {string} */ hex, alpha = 1) => `rgba(${readable(hex, dark).join(",")},${alpha})`;
  return { dark, text: ink(0.75), strong: ink(1), grid: ink(0.1), paper: dark ? "#111111" : "#ffffff", lit };
}

/**
 * A colour moved towards the ink until it stands out from the paper by 3 to 1.
 * @param {string} hex
 * @param {boolean} dark
 */
export function readable(hex, dark) {
  let parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const paper = dark ? luminance([17, 17, 17]) : 1;
  const towards = dark ? 255 : 0;
  for (let step = 0; step < 20 && contrast(luminance(parts), paper) < 3; step += 1)
    parts = parts.map((part) => Math.round(part + 0.1 * (towards - part)));
  return parts;
}

/** @param {number[]} parts */
export function luminance(parts) {
  const [r, g, b] = parts.map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {number} a @param {number} b */
export function contrast(a, b) {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
