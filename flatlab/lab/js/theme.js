// @ts-check
// Colours of the page a chart stands on, and a run's colour on it.

/**
 * What to write with on this page, and on what.
 * @param {Element} root
 */
export function inksOf(root) {
  const place = root.isConnected ? root : document.body;
  const parts = channels(getComputedStyle(place).color);
  const dark = parts[0] + parts[1] + parts[2] > 384; // light ink
  /** @type {number[] | undefined} */ let paper;
  for (let behind = /** @type {Element | null} */ (place); behind && !paper; behind = behind.parentElement)
    paper = opaque(getComputedStyle(behind).backgroundColor);
  const below = paper ?? (dark ? [17, 17, 17] : [255, 255, 255]);
  const ink = (/** @type {number} */ alpha) => `rgba(${parts.join(",")},${alpha})`;
  const lit = (/** @type {string} */ hex, alpha = 1) => `rgba(${readable(hex, below).join(",")},${alpha})`;
  return { dark, text: ink(0.75), strong: ink(1), grid: ink(0.1), paper: `rgb(${below.join(",")})`, lit };
}

/** @param {string} color as a browser gives it */
function channels(color) {
  return (color.match(/[\d.]+/g) ?? ["0", "0", "0"]).slice(0, 3).map(Number);
}

/** The channels of a colour that hides what is behind it. @param {string} color */
export function opaque(color) {
  return /^rgb\(|, ?1\)$/.test(color) ? channels(color) : undefined;
}

/**
 * A colour moved away from the paper until it stands out by 3 to 1.
 * @param {string} hex
 * @param {number[]} paper
 */
export function readable(hex, paper) {
  let parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const below = luminance(paper);
  const towards = contrast(1, below) > contrast(0, below) ? 255 : 0;
  for (let step = 0; step < 20 && contrast(luminance(parts), below) < 3; step += 1)
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
