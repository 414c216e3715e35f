"""Encoded pictures as uint8 arrays of the channels that a data set declares."""

import io

import numpy as np

from groundfloor.errors import UserError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels: Pillow's mode


def decode(content, channels=None):
    """The picture in the bytes `content` as uint8 (h, w, channels).

    channels: 1 (grey), 2 (grey, alpha), 3 or 4 (with alpha); None keeps the picture's own.
    As TensorFlow's decode_image: palettes become their colours, black and white 0 and 255, grey
    fills all colours, alpha is left out or full, and EXIF's orientation is not looked at. Of its
    own channels, a picture with a palette has 3, or 4 with transparency, and CMYK has 3.
    Pillow's errors (OSError, ValueError, ...) mean damage; UserError that 8 bits cannot show it.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.format == "PNG" and content[24] == 16:  # where Pillow drops a byte without a word
        raise UserError("has 16 bits a channel; 8-bit images are needed")
    mode = MODES[channels] if channels else _own_mode(image)
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    return array[..., None] if array.ndim == 2 else array


def _own_mode(image):
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return {"1": "L", "CMYK": "RGB"}.get(image.mode, image.mode)
