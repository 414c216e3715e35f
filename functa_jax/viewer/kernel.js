/* The one expensive step of the decoder: a matrix times a block of columns.

   product(weights, inputs, outputs, fanIn, fanOut, points) on float32 memory, addresses in bytes:
   outputs[o][p] = sum over k of W[k][o] * inputs[k][p]. Rows of inputs and outputs are units, of
   `points` numbers each (a multiple of 8). Weights lie packed by `pack`: four outputs side by side.

   In WebAssembly with SIMD a core does about ten times what plain JavaScript does. The module is
   one function of three loops, so it is assembled here, byte by byte, instead of being shipped
   as a binary. Where WebAssembly is switched off, plain JavaScript does the same. */

"use strict";

/** Weights (fanIn, fanOut), row-major, as panels [fanOut / 4][fanIn][4]; fanOut a multiple of 4. */
function pack(weights, fanIn, fanOut, target) {
  for (let o = 0, at = 0; o < fanOut; o += 4) {
    for (let k = 0; k < fanIn; k++, at += 4) {
      for (let i = 0; i < 4; i++) target[at + i] = weights[k * fanOut + o + i];
    }
  }
}

/** {buffer, product, name}: memory of at least so many bytes, and the product that works on it. */
function makeKernel(bytes) {
  const pages = Math.ceil(bytes / 65536);
  try {
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(assemble(pages)), {
      env: { memory },
    });
    return { buffer: memory.buffer, product: instance.exports.product, name: "WebAssembly" };
  } catch {
    const buffer = new ArrayBuffer(pages * 65536);
    return { buffer, product: plainProduct(new Float32Array(buffer)), name: "JavaScript" };
  }
}

function plainProduct(memory) {
  return (weights, inputs, outputs, fanIn, fanOut, points) => {
    for (let o = 0; o < fanOut; o += 4) {
      for (let p = 0; p < points; p += 2) {
        let a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0;
        let w = weights / 4 + o * fanIn, h = inputs / 4 + p;
        for (let k = 0; k < fanIn; k++, w += 4, h += points) {
          const x = memory[h], y = memory[h + 1];
          const w0 = memory[w], w1 = memory[w + 1], w2 = memory[w + 2], w3 = memory[w + 3];
          a0 += w0 * x; a1 += w1 * x; a2 += w2 * x; a3 += w3 * x;
          b0 += w0 * y; b1 += w1 * y; b2 += w2 * y; b3 += w3 * y;
        }
        const at = outputs / 4 + o * points + p;
        memory[at] = a0; memory[at + points] = a1;
        memory[at + 2 * points] = a2; memory[at + 3 * points] = a3;
        memory[at + 1] = b0; memory[at + points + 1] = b1;
        memory[at + 2 * points + 1] = b2; memory[at + 3 * points + 1] = b3;
      }
    }
  };
}

/** The bytes of the module (WebAssembly core specification 2.0, chapter 5). */
function assemble(pages) {
  const I32 = 0x7f, V128 = 0x7b, VOID = 0x40;
  const unsigned = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...unsigned(n >>> 7)]);
  const vector = (items) => [...unsigned(items.length), ...items.flat()];
  const section = (id, items) => [id, ...vector([vector(items)].flat())];
  const name = (text) => vector([...text].map((c) => c.charCodeAt(0)));

  // Parameters, then locals; `row` is the length in bytes of a row of units.
  const [weights, inputs, outputs, fanIn, fanOut, row] = [0, 1, 2, 3, 4, 5];
  const [p, k, h, w, at] = [6, 7, 8, 9, 10];
  const [x0, x1, y, sums] = [11, 12, 13, 14]; // eight sums: 4 outputs by 8 points
  const get = (i) => [0x20, i], set = (i) => [0x21, i];
  const number = (n) => [0x41, ...unsigned(n)]; // n below 64, so that signed is unsigned
  const add = [0x6a], times = [0x6c], less = [0x49];
  const simd = (code, ...rest) => [0xfd, ...unsigned(code), ...rest];
  const load = (offset) => simd(0x00, 4, offset), splat = (offset) => simd(0x09, 2, offset);
  const store = (offset) => simd(0x0b, 4, offset);
  const plus = simd(0xe4), multiply = simd(0xe6);
  const zero = simd(0x0c, ...Array(16).fill(0));
  const increase = (i, ...amount) => [...get(i), ...amount, ...add, ...set(i)];
  const loop = (body, condition) => [0x03, VOID, ...body, ...condition, 0x0d, 0, 0x0b];
  const each = (n, f) => Array.from({ length: n }, (_, i) => f(i)).flat();

  const innermost = loop(
    [
      ...get(h), ...load(0), ...set(x0), ...get(h), ...load(16), ...set(x1),
      ...each(4, (i) => [
        ...get(w), ...splat(4 * i), ...set(y),
        ...each(2, (j) => [
          ...get(sums + 2 * i + j), ...get(y), ...get(j ? x1 : x0), ...multiply, ...plus,
          ...set(sums + 2 * i + j),
        ]),
      ]),
      ...increase(h, ...get(row)), ...increase(w, ...number(16)),
      ...get(k), ...number(1), 0x6b, ...set(k),
    ],
    get(k),
  );
  const overPoints = loop(
    [
      ...each(8, (i) => [...zero, ...set(sums + i)]),
      ...get(inputs), ...get(p), ...add, ...set(h), ...get(weights), ...set(w),
      ...get(fanIn), ...set(k),
      ...innermost,
      ...get(outputs), ...get(p), ...add, ...set(at),
      ...each(4, (i) => [
        ...each(2, (j) => [...get(at), ...get(sums + 2 * i + j), ...store(16 * j)]),
        ...increase(at, ...get(row)),
      ]),
      ...increase(p, ...number(32)),
    ],
    [...get(p), ...get(row), ...less],
  );
  const overOutputs = loop(
    [
      ...number(0), ...set(p),
      ...overPoints,
      ...get(w), ...set(weights), // where this panel ended, the next begins
      ...increase(outputs, ...get(row), ...number(4), ...times),
      ...get(fanOut), ...number(4), 0x6b, ...set(fanOut),
    ],
    get(fanOut),
  );
  const locals = vector([[5, I32], [11, V128]]);
  const body = [
    ...locals, ...get(row), ...number(4), ...times, ...set(row), ...overOutputs, 0x0b,
  ];
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [[0x60, ...vector(Array(6).fill(I32)), 0]]),
    ...section(2, [[...name("env"), ...name("memory"), 2, 1, ...unsigned(pages), ...unsigned(pages)]]),
    ...section(3, [[0]]),
    ...section(7, [[...name("product"), 0, 0]]),
    ...section(10, [[...unsigned(body.length), ...body]]),
  ]);
}
