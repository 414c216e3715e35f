/* The page: what the user picks and slides becomes a latent and a visible rectangle; workers
   decode it, coarse pixels first, and the canvas shows each strip of pixels as it comes. */

"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const config = data.config;
const [HEIGHT, WIDTH] = data.resolution.slice(-2);
const DEPTH = data.resolution.length === 3 ? data.resolution[0] : 1; // slices
const [CHANNELS, CELL] = [config.channels, config.latent_dim];
const GRID = config.grid || 1;
const NUMBERS = CELL * GRID * GRID;
const COUNT = data.labels.length;
const PAGE = 32; // sliders of single numbers at a time
const STRIP = 3e7; // multiplications in one piece of work: some milliseconds
const SMALL = 16; // pixels a side: such images open as they are, as nothing taught what lies between
const MEAN = COUNT; // the mean latent is one more image, without an original

const floats = (text) => new Float32Array(bytes(text).buffer);
function bytes(text) {
  const binary = atob(text);
  const result = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) result[i] = binary.charCodeAt(i);
  return result;
}
const rowOf = (rows, i, size = NUMBERS) => rows.subarray(i * size, (i + 1) * size);

const latents = floats(data.latents), mean = floats(data.mean), std = floats(data.std);
const vectors = floats(data.directions), deviations = floats(data.deviations);
const originals = data.originals && bytes(data.originals);
const params = Object.fromEntries(
  Object.entries(data.params).map(([name, text]) => [name, floats(text)]),
);
for (const name in data) if (typeof data[name] === "string" && data[name].length > 1e5) delete data[name];
delete data.params;
