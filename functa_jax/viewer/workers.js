/* Workers that decode strips of pixels, and what is made of their colours. */

/** Decoders in the background; work waits in a queue, so that what is outdated can be dropped. */
class Pool {
  constructor() {
    const url = URL.createObjectURL(
      new Blob([element("worker").textContent], { type: "text/javascript" }),
    );
    const count = Math.min(navigator.hardwareConcurrency || 2, 8);
    this.queue = [];
    this.idle = Array.from({ length: count }, () => this.start(url));
    this.versions = new WeakMap(); // latent -> number, by which workers know it again
    this.latest = 0;
  }

  start(url) {
    const worker = new Worker(url);
    worker.onmessage = ({ data: { colours } }) => {
      const { resolve } = worker.job;
      worker.job = null;
      this.idle.push(worker);
      this.next();
      resolve(colours);
    };
    worker.onerror = (event) => fail(`A worker failed: ${event.message || "it could not start"}`);
    worker.postMessage({ config, params });
    return worker;
  }

  /** Colours of a strip of pixels (decoder.js, pixelCentres), or null if it was dropped. */
  strip(latent, strip, urgent = true) {
    if (!this.versions.has(latent)) this.versions.set(latent, ++this.latest);
    const version = this.versions.get(latent);
    return new Promise((resolve) => {
      const job = { latent, version, strip, resolve, urgent };
      const at = urgent ? this.queue.findIndex((other) => !other.urgent) : -1;
      this.queue.splice(at < 0 ? this.queue.length : at, 0, job);
      this.next();
    });
  }

  next() {
    while (this.idle.length && this.queue.length) {
      const worker = this.idle.pop();
      worker.job = this.queue.shift();
      const { latent, version, strip } = worker.job;
      worker.postMessage({ latent, version, strip });
    }
  }

  /** Forget the urgent work that has not begun. */
  drop() {
    const dropped = this.queue.filter((job) => job.urgent);
    this.queue = this.queue.filter((job) => !job.urgent);
    for (const job of dropped) job.resolve(null);
  }
}

function fail(message) {
  element("about").textContent = message;
  element("about").className = "bad";
}

const pool = new Pool();
const COST = config.width * (config.width * (config.depth - 2) + 20 * config.depth); // of a point

/** Decode a rectangle in strips; each is told to `shown(colours, from, to)`. False if dropped. */
async function decodeStrips(latent, rectangle, shown, urgent) {
  const { rows, columns } = rectangle;
  const height = Math.max(1, Math.min(rows, Math.floor(STRIP / (COST * columns))));
  const work = [];
  for (let from = 0; from < rows; from += height) {
    const to = Math.min(from + height, rows);
    const strip = pool.strip(latent, { ...rectangle, from, to }, urgent);
    work.push(strip.then((colours) => (colours ? (shown(colours, from, to), true) : false)));
  }
  return (await Promise.all(work)).every(Boolean);
}

/** The first coordinate of a slice. */
const sliceAt = (number) => (number + 0.5) / DEPTH;

/** The whole image as Float32Array (rows * columns * channels); of a volume or a film, a slice. */
async function decode(latent, rows, columns, urgent = true, number = Math.floor(DEPTH / 2)) {
  const result = new Float32Array(rows * columns * CHANNELS);
  const slice = sliceAt(number);
  const rectangle = { top: 0, left: 0, height: 1, width: 1, rows, columns, slice };
  const place = (colours, from) => result.set(colours, from * columns * CHANNELS);
  return (await decodeStrips(latent, rectangle, place, urgent)) ? result : null;
}

/** Colours in [0, 1] (times `white`) as a canvas. */
function painted(colours, rows, columns, white = 1) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const image = new ImageData(shades(colours, CHANNELS, white), columns, rows);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
