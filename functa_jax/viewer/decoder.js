/* The decoder: the modulated SIREN of functa_jax/model/siren.py, at any points, for one latent.

   A latent is a vector (L) or a grid of cells (s, s, L), flat and row-major. A linear map turns it
   (or a cell with its neighbours) into modulations, a shift and perhaps a scale for each unit of
   each sine layer. Points are worked on in blocks; a block's activations are stored unit by unit,
   with the points side by side, which is what the kernel wants.

   Of functions of three coordinates, such as volumes and films, one slice is a picture: its first
   coordinate is the same for all points, and the first layer takes it into its bias. */

"use strict";

const BLOCK = 32; // points at a time: their activations stay in the first cache

/** sin x to 1e-7 for |x| up to 1e5: x less a multiple of pi, then Taylor's series. */
function sine(x) {
  const k = Math.floor(x * 0.3183098861837907 + 0.5);
  const r = x - k * 3.141592653589793;
  const q = r * r;
  const series =
    1 + q * (-1 / 6 + q * (1 / 120 + q * (-1 / 5040 + q * (1 / 362880 - q / 39916800))));
  return k & 1 ? -r * series : r * series;
}

class Decoder {
  /** config: ModelConfig's fields; params: {name: Float32Array} as in functa.npz. */
  constructor(config, params, kernelOf = makeKernel) {
    this.config = config;
    this.map = { kernel: params["latent_map/kernel"], bias: params["latent_map/bias"] };
    this.perUnit = config.modulation === "scale_shift" ? 2 : 1;
    this.cells = (config.grid || 1) ** 2;
    this.padded = Math.ceil(config.width / 4) * 4; // padding units have zero weights all around
    const layer = (i, fanIn, fanOut, rows, columns) => ({
      kernel: padded(params[`siren/layers/${i}/kernel`], fanIn, fanOut, rows, columns),
      bias: padded(params[`siren/layers/${i}/bias`], 1, fanOut, 1, columns),
    });
    const { width, depth, channels } = config;
    const inputs = config.inputs || 2;
    this.first = layer(0, inputs, width, inputs, this.padded);
    this.slice = 0; // the first of three coordinates
    this.last = layer(depth - 1, width, channels, this.padded, channels);
    const size = this.padded ** 2;
    const hidden = depth - 2;
    this.inputs = hidden * size; // addresses in numbers; hidden weights come first
    this.outputs = this.inputs + this.padded * BLOCK;
    this.kernel = kernelOf(4 * (this.outputs + this.padded * BLOCK));
    this.memory = new Float32Array(this.kernel.buffer);
    this.biases = [];
    for (let i = 0; i < hidden; i++) {
      const { kernel, bias } = layer(i + 1, width, width, this.padded, this.padded);
      pack(kernel, this.padded, this.padded, this.memory.subarray(i * size, (i + 1) * size));
      this.biases.push(bias);
    }
    // Of a block: the cells that its modulations come from, and each point's weight for each.
    this.near = [];
    this.weights = new Float64Array(4 * BLOCK * BLOCK);
    this.y = new Float64Array(BLOCK);
    this.x = new Float64Array(BLOCK);
    this.shift = new Float64Array(BLOCK);
    this.scale = new Float64Array(BLOCK).fill(1);
  }

  setLatent(latent) {
    this.latent = latent;
    this.modulations = new Array(this.cells).fill(null); // each made when a point needs it
  }

  /** Colours (n * channels) at points (y0, x0, y1, x1, ...) in [0, 1]^2. */
  colours(points) {
    const n = points.length / 2, { channels } = this.config;
    const colours = new Float32Array(n * channels);
    for (let start = 0; start < n; start += BLOCK) {
      const count = Math.min(BLOCK, n - start);
      this.near.length = 0;
      for (let p = 0; p < BLOCK; p++) {
        const at = 2 * (start + Math.min(p, count - 1)); // the last block is filled up
        this.place(p, points[at], points[at + 1]);
      }
      this.firstLayer();
      for (let i = 0; i < this.biases.length; i++) this.hiddenLayer(i);
      this.lastLayer(colours, start, count);
    }
    return colours;
  }

  /** Point p of the block: its coordinates for the network, its cells and their weights. */
  place(p, y, x) {
    const { grid: s, coordinates, interpolation } = this.config;
    this.y[p] = y;
    this.x[p] = x;
    if (!s) return this.weigh(0, p, 1);
    const row = cellOf(y, s), column = cellOf(x, s);
    if (interpolation !== "bilinear") this.weigh(row * s + column, p, 1);
    else {
      const [i, v] = hat(y, s), [j, u] = hat(x, s);
      this.weigh(i * s + j, p, (1 - v) * (1 - u));
      this.weigh(i * s + j + 1, p, (1 - v) * u);
      this.weigh((i + 1) * s + j, p, v * (1 - u));
      this.weigh((i + 1) * s + j + 1, p, v * u);
    }
    if (coordinates === "local") {
      this.y[p] = y * s - row;
      this.x[p] = x * s - column;
    }
  }

  /** Give a cell this weight at point p of the block (beyond the border all weights are 0). */
  weigh(cell, p, weight) {
    if (!weight) return;
    let c = this.near.findIndex((other) => other.cell === cell);
    if (c < 0) {
      c = this.near.push({ cell, modulation: this.modulation(cell) }) - 1;
      this.weights.fill(0, c * BLOCK, (c + 1) * BLOCK);
    }
    this.weights[c * BLOCK + p] = weight;
  }

  /** Modulations of a cell: (depth - 1, [scale - 1, shift], width), flat. */
  modulation(cell) {
    if (this.modulations[cell]) return this.modulations[cell];
    const { grid, latent_dim: numbers, map_size: size } = this.config;
    const result = Float32Array.from(this.map.bias);
    const s = grid || 1, margin = (size - 1) / 2;
    for (let n = 0; n < size * size; n++) {
      const row = Math.floor(cell / s) + Math.floor(n / size) - margin;
      const column = (cell % s) + (n % size) - margin;
      if (row < 0 || column < 0 || row >= s || column >= s) continue; // zeros beyond the border
      for (let l = 0; l < numbers; l++) {
        const z = this.latent[(row * s + column) * numbers + l];
        const at = (n * numbers + l) * result.length;
        for (let m = 0; m < result.length; m++) result[m] += z * this.map.kernel[at + m];
      }
    }
    return (this.modulations[cell] = result);
  }

  /** What unit o of a sine layer adds to each point of the block (and multiplies it by). */
  modulate(layer, o) {
    const { width } = this.config, at = layer * this.perUnit * width + o;
    const scales = this.perUnit === 2;
    if (scales) this.scale.fill(1);
    this.shift.fill(0);
    if (o >= width) return; // a padding unit
    for (let c = 0; c < this.near.length; c++) {
      const { modulation } = this.near[c];
      if (scales) this.spread(this.scale, c, modulation[at]);
      this.spread(this.shift, c, modulation[scales ? at + width : at]);
    }
  }

  spread(target, c, amount) {
    const { weights } = this;
    for (let p = 0, w = c * BLOCK; p < BLOCK; p++, w++) target[p] += amount * weights[w];
  }

  firstLayer() {
    const { kernel, bias } = this.first, { y, x, scale, shift, memory, padded: n } = this;
    const sliced = this.config.inputs === 3, down = sliced ? n : 0;
    for (let o = 0; o < n; o++) {
      this.modulate(0, o);
      const at = this.inputs + o * BLOCK, start = bias[o] + (sliced ? this.slice * kernel[o] : 0);
      for (let p = 0; p < BLOCK; p++) {
        const sum = y[p] * kernel[down + o] + x[p] * kernel[down + n + o] + start;
        memory[at + p] = sine(this.config.w0 * (scale[p] * sum + shift[p]));
      }
    }
  }

  hiddenLayer(i) {
    const { scale, shift, memory, inputs, outputs, padded: n } = this, { w0 } = this.config;
    this.kernel.product(4 * i * n * n, 4 * inputs, 4 * outputs, n, n, BLOCK);
    for (let o = 0; o < n; o++) {
      this.modulate(i + 1, o);
      const bias = this.biases[i][o], from = outputs + o * BLOCK, to = inputs + o * BLOCK;
      for (let p = 0; p < BLOCK; p++) {
        memory[to + p] = sine(w0 * (scale[p] * (memory[from + p] + bias) + shift[p]));
      }
    }
  }

  lastLayer(colours, start, count) {
    const { kernel, bias } = this.last, { memory, inputs, padded: n } = this;
    const { channels, loss } = this.config;
    for (let p = 0; p < count; p++) {
      for (let c = 0; c < channels; c++) {
        let sum = bias[c] + 0.5;
        for (let k = 0; k < n; k++) sum += memory[inputs + k * BLOCK + p] * kernel[k * channels + c];
        if (loss === "bernoulli") sum = 1 / (1 + Math.exp(10 * (0.5 - sum))); // training/losses.py
        colours[(start + p) * channels + c] = sum;
      }
    }
  }
}

/** A matrix (fanIn, fanOut) with zeros around it: (rows, columns). */
function padded(matrix, fanIn, fanOut, rows, columns) {
  const result = new Float32Array(rows * columns);
  for (let i = 0; i < fanIn; i++) {
    result.set(matrix.subarray(i * fanOut, (i + 1) * fanOut), i * columns);
  }
  return result;
}

/** The cell that a coordinate lies in; rounded as JAX does, so that borders fall to the same. */
function cellOf(x, s) {
  return Math.min(Math.max(Math.floor(Math.fround(Math.fround(x) * s)), 0), s - 1);
}

/** Linear interpolation between cell centres: the lower cell, and the weight of the next. */
function hat(x, s) {
  const place = Math.min(Math.max(x * s - 0.5, 0), s - 1);
  const lower = Math.floor(place);
  return [lower, place - lower];
}

/** Centres of some rows of rows x columns pixels that cover a rectangle of the image:
    points (y0, x0, y1, x1, ...) for `Decoder.colours`. */
function pixelCentres({ top, left, height, width, rows, columns, from = 0, to = rows }) {
  const points = new Float64Array(2 * (to - from) * columns);
  for (let i = from, at = 0; i < to; i++) {
    for (let j = 0; j < columns; j++) {
      points[at++] = top + ((i + 0.5) / rows) * height;
      points[at++] = left + ((j + 0.5) / columns) * width;
    }
  }
  return points;
}
