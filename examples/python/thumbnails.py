"""Thumbnails of the images in a folder. A broken file fails for itself, and one that takes too long is given up.

pip install procpool pillow
python thumbnails.py PHOTOS SMALL
"""

import sys
from pathlib import Path

from PIL import Image
from procpool import Pool

SIZE = (128, 128)


def make_thumbnail(source: Path, target: Path) -> str:
    with Image.open(source) as image:
        image.thumbnail(SIZE)
        image.convert("RGB").save(target)
        return f"{target.name}: {image.width} x {image.height}"


def main(photos: Path, small: Path) -> None:
    small.mkdir(exist_ok=True)
    sources = sorted(photos.iterdir())
    pairs = [(source, small / f"{source.stem}.jpg") for source in sources]
    with Pool(2) as pool:
        outcomes = pool.istarmap(make_thumbnail, pairs, timeout=30, on_error="return")
        for source, outcome in zip(sources, outcomes, strict=True):
            print(f"{source.name}: {type(outcome).__name__}" if isinstance(outcome, Exception) else outcome)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
