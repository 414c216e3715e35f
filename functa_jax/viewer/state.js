/* What the user picked, and the latent that follows from it. */

const state = {
  ends: [0, Math.min(1, COUNT - 1)], // images A and B
  blend: 0,
  sigmas: new Float32Array(deviations.length),
  edits: new Float32Array(NUMBERS),
  view: { top: 0, left: 0, size: 1 }, // the visible part: `size` of the image's height and width
  cell: 0,
  slice: Math.floor(DEPTH / 2), // which one is shown, of volumes and films
};
let latent = new Float32Array(NUMBERS);
let native = null; // the current latent's image at the resolution of the training images
let psnr = null;

const imageLatent = (i) => (i === MEAN ? mean : rowOf(latents, i));
const nameOf = (i) =>
  i === MEAN ? "mean" : `no. ${data.ids[i]}` + (data.labels[i] < 0 ? "" : `, label ${data.labels[i]}`);
const nearer = () => state.ends[state.blend > 0.5 ? 1 : 0];

function latentChanged() {
  const [a, b] = state.ends.map(imageLatent);
  latent = Float32Array.from(a, (x, i) => x + state.blend * (b[i] - x) + state.edits[i]);
  state.sigmas.forEach((sigma, k) => {
    const direction = rowOf(vectors, k), amount = sigma * deviations[k];
    if (amount) for (let i = 0; i < NUMBERS; i++) latent[i] += amount * direction[i];
  });
  native = psnr = null;
  showSliders();
  refresh();
}
