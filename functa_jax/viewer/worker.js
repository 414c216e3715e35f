/* A worker: a decoder of its own, which decodes one strip of pixels after another. */

"use strict";

let decoder = null;
let version = -1; // of the latent that the decoder holds

onmessage = ({ data }) => {
  if (data.config) decoder = new Decoder(data.config, data.params);
  if (!data.strip) return;
  if (data.version !== version) decoder.setLatent(data.latent);
  version = data.version;
  decoder.slice = data.strip.slice;
  const colours = decoder.colours(pixelCentres(data.strip));
  postMessage({ job: data.job, colours }, [colours.buffer]);
};
