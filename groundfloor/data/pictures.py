"""Encoded pictures as uint8 arrays."""

import io

import numpy as np
from PIL import Image, ImageOps

from groundfloor.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels: Pillow's mode
GREY = ("1", "L", "LA", "La", "I", "F")  # and I;16 in its byte orders
ORIENTATION = 0x0112  # EXIF's tag; 5 to 8 are lying on their side


def decode(content, channels=None):
    """The picture in the bytes `content` as uint8 (h, w, channels).

    channels: 1 (grey), 2 (grey, alpha), 3 or 4 (with alpha); None keeps the picture's own.
    As TensorFlow's decode_image: palettes become their colours, black and white 0 and 255, grey
    fills all colours, alpha is left out or full, and EXIF's orientation is not looked at. Of its
    own channels, a picture with a palette has 3, or 4 with transparency, and CMYK has 3.
    Pillow's errors (OSError, ValueError, ...) mean damage; UserError that 8 bits cannot show it.
    """
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.format == "PNG" and content[24] == 16:  # where Pillow drops a byte without a word
        raise UserError("has 16 bits a channel; 8-bit images are needed")
    mode = MODES[channels] if channels else _own_mode(image)
    return _array(image if image.mode == mode else image.convert(mode))


def _own_mode(image):
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return {"1": "L", "CMYK": "RGB"}.get(image.mode, image.mode)


def describe(path):
    """(height, width, channels) of a picture file as a viewer shows it, from its head alone."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if image.getexif().get(ORIENTATION, 1) >= 5:
            width, height = height, width
        grey = image.mode in GREY or image.mode.startswith("I;")
        return height, width, (1 if grey else 3) + image.has_transparency_data


def read(path, channels, resolution=None):
    """A picture file as a viewer shows it: uint8 (h, w, channels), turned as EXIF says.

    channels: as for `decode`, but without alpha what is transparent becomes white. 16 bits become
    8: grey by rounding, colours by their high byte. resolution: as in `resized`.
    Pillow's errors (OSError, ValueError, ...) mean damage.
    """
    with Image.open(path, formats=FORMATS) as image:
        if resolution:  # JPEG's own reduction, to no less than twice as much as is needed
            image.draft(None, (2 * resolution, 2 * resolution))
        image = ImageOps.exif_transpose(image)
        if image.mode == "I" or image.mode.startswith("I;"):
            levels = np.clip(np.asarray(image, np.float64) / 257, 0, 255)
            image = Image.fromarray(np.rint(levels).astype(np.uint8))
        if image.has_transparency_data and channels in (1, 3):
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        if image.mode != MODES[channels]:
            image = image.convert(MODES[channels])
        return _array(_cropped(image, resolution) if resolution else image)


def resized(images, resolution):
    """uint8 images (n, h, w, c): their central squares at a side of `resolution` pixels.

    Bicubic with antialiasing; colours are weighted by alpha. Images of that side stay as they are.
    """
    if images.shape[1:3] == (resolution, resolution):
        return images
    out = np.empty((len(images), resolution, resolution, images.shape[3]), np.uint8)
    mode = MODES[images.shape[3]]
    for index, array in enumerate(images):
        image = Image.fromarray(array[..., 0] if mode == "L" else array, mode)
        out[index] = _array(_cropped(image, resolution))
    return out


def _cropped(image, resolution):
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    square = image.crop((left, top, left + side, top + side))
    return square.resize((resolution, resolution), Image.Resampling.BICUBIC)


def _array(image):
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
