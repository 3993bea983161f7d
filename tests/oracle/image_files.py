"""Writes crates/model/src/image/fixtures: image files, and the pixels that diffusers' `load_image` gives for each.

    python tests/oracle/image_files.py
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FOLDER = Path(__file__).parents[2] / "crates/model/src/image/fixtures"


def main():
    FOLDER.mkdir(exist_ok=True)
    row, column = np.mgrid[0:16, 0:24]
    pixels = np.stack([column * 10, row * 15, (row + column) * 6], -1).astype(np.uint8)
    alpha = ((column % 2) * 255).astype(np.uint8)
    plain = Image.fromarray(pixels)
    transparent = Image.fromarray(np.concatenate([pixels, alpha[..., None]], -1))
    exif = Image.Exif()
    exif[0x0112] = 6

    def save(image, name, **options):
        image.save(FOLDER / name, **options)

    save(plain, "turned.jpg", quality=95, subsampling=0, exif=exif)
    save(plain.convert("CMYK"), "cmyk.jpg", quality=95)
    save(plain.convert("L"), "grey.jpg", quality=95)
    save(plain, "turned.webp", lossless=True, exif=exif)
    save(transparent, "transparent.webp", lossless=True, exact=True)
    save(plain, "lossy.webp", quality=90)
    save(transparent, "transparent.png", exif=exif)
    save(transparent.convert("LA"), "grey-alpha.png")
    few = plain.crop((0, 0, 2, 2)).quantize(4)
    save(few, "palette.png", transparency=bytes([0, 128, 255, 0]))
    for path in FOLDER.iterdir():
        if path.suffix != ".rgb":
            image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            path.with_name(f"{path.name}.rgb").write_bytes(np.array(image).tobytes())


if __name__ == "__main__":
    main()
