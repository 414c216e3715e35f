/* Values of an image's channels as what a canvas shows. */

/**
 * Red, green, blue and 255 of each pixel, from values in [0, 1] (times `white`) of `channels` each.
 * As groundfloor.plots.as_rgb: one channel is grey; the last of two or four is opacity, before
 * white; of five or more the first three are shown.
 */
function shades(values, channels, white = 1) {
  const within = (value) => Math.min(Math.max(value / white, 0), 1);
  const pixels = new Uint8ClampedArray((4 * values.length) / channels);
  for (let at = 0, to = 0; at < values.length; at += channels, to += 4) {
    const opacity = channels === 2 || channels === 4 ? within(values[at + channels - 1]) : 1;
    for (let c = 0; c < 3; c++) {
      const value = within(values[at + (channels < 3 ? 0 : c)]);
      pixels[to + c] = Math.round(255 * (opacity * value + 1 - opacity));
    }
    pixels[to + 3] = 255;
  }
  return pixels;
}
