"""What is measured: latents, PCA and standard files, each at several settings."""

import math

from functa_jax.tasks.compression import curves, encoding, pixels


def work(material, decoder, rows, shown, steps, settings, folder=None):
    """{method: {setting: function that measures a curves.Point}}, latents first.

    material: a task.Material; decoder: the Functa that makes pictures; rows: of the test split,
    which are measured; shown: which of these to keep pictures of; steps: of the quantiser, in grey
    levels; settings: as codec.fit takes them; folder: that keeps the PCA, default the run's.
    """
    images = material.data.test.images[rows]
    ours = encoding.Latents(material.functa, decoder, material.unaugmented, settings)
    found = {
        "latents": {step: lambda step=step: ours.point(rows, images, shown, step) for step in steps}
    }
    for method, rival in pixels.rivals(material.data, folder or material.folder, settings).items():
        found[method] = {
            step: lambda step=step, rival=rival: rival.point(images, shown, step) for step in steps
        }
    for method, qualities in curves.QUALITIES.items():
        if images.shape[-1] in curves.CHANNELS[method]:
            found[method] = {
                quality: lambda method=method, quality=quality: curves.standard(
                    method, quality, images, shown
                )
                for quality in qualities
            }
    return found


def row(point, images):
    """A Point of images (n, h, w, C) as a row of a table."""
    pixels_in_all = math.prod(images.shape[:3])
    return {
        "method": point.method,
        "setting": point.setting,
        "bits/pixel": 8 * point.bare / pixels_in_all,
        "bits/pixel, whole files": 8 * point.whole / pixels_in_all,
        "PSNR (dB)": point.psnr,
        **times(point),
    }


def times(point):
    """Processor time of a Point, as part of a row."""
    return {
        "encode, ms/image": 1000 * point.encode_seconds,
        "decode, ms/image": 1000 * point.decode_seconds,
    }
