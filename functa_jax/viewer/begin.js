/* The page begins, and what scripts and tests may use. */

const grids = config.grid ? `${GRID} × ${GRID} cells of ${CELL} numbers` : `${CELL} numbers`;
element("title").textContent = `functa: ${data.name}`;
element("about").textContent =
  `${grids} per ${DEPTH > 1 ? "function" : "image"}, ${data.resolution.slice().reverse().join(" × ")} pixels; a SIREN of width ${config.width} and depth ` +
  `${config.depth}, weights ${data.hash}, decoded in this page.`;
if (!originals) {
  element("beside").hidden = true;
  element("pictures").classList.add("alone");
}
element("size").textContent = `Original resolution, ${WIDTH} × ${HEIGHT}`;
element("native").checked = Math.max(HEIGHT, WIDTH) <= SMALL;
makeGallery();
makeNumbers();
showSlice();
latentChanged();
new ResizeObserver(resize).observe(picture.parentElement);
resize();

/** For scripts and tests: `await viewer.ready`, `await viewer.decode(latent, side)`. */
window.viewer = {
  ready: drawGallery(),
  decode: (numbers, rows, columns = rows) => decode(Float32Array.from(numbers), rows, columns, false),
  look,
  state,
  get latent() { return latent; },
  get psnr() { return psnr; },
  get busy() { return rendering; },
};
viewer.ready.then(() => {
  thumbnails = true;
  refresh();
});
