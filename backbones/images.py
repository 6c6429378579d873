"""Reading the user's images."""

from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from backbones.errors import UserError

ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND"}  # first bytes of a format -> what stands at its end
TAIL = 4096  # bytes searched for it: some cameras append records of their own
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def read_image(path: str | Path) -> Image.Image:
    """The whole image as RGB, turned as its EXIF data says.

    Raises:
        UserError: the file is absent, not an image, or cut off; the message names it.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise UserError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise UserError(f"not an image but a folder: {path}") from None
    except UnidentifiedImageError:
        raise UserError(f"not an image: {path}; readable: {', '.join(SUFFIXES)}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"image cannot be read to its end: {path} ({error})") from None


def check_image(path: str | Path) -> None:
    """Raises the UserError of :func:`read_image` for a file that is absent, not an image, or cut off.

    JPEG and PNG files that end as they must are not decoded, so the check costs next to nothing.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(-min(file.seek(0, 2), TAIL), 2)
            tail = file.read()
    except OSError:
        start = tail = b""
    end = next((end for magic, end in ENDS.items() if start.startswith(magic)), None)
    if end is None or end not in tail:
        read_image(path)


def list_images(paths: list[str | Path]) -> list[Path]:
    """Files as given, and for a folder the images in it, sorted; UserError for a folder without any."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"no images in {path}; readable: {', '.join(SUFFIXES)}")
            found += inside
        else:
            found.append(path)
    return found


def output_stems(paths: list[Path]) -> list[str]:
    """A file name without suffix for each input; inputs that share a stem are told apart by folder, then number."""
    stems = [path.stem for path in paths]
    stems = [
        f"{p.parent.name}_{s}" if stems.count(s) > 1 and p.parent.name else s for p, s in zip(paths, stems, strict=True)
    ]
    return [f"{s}_{stems[:i].count(s) + 1}" if s in stems[:i] else s for i, s in enumerate(stems)]
