"""Pictures: read one, or show many one after the other as a silent film without a file.

A folder of pictures is shown in the order of their names; a design, a table of ``file``,
``onset``, ``duration`` and ``condition``, says when each is seen. Between pictures the screen is
mid grey.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tribrain.errors import InputError
from tribrain.files import one_line, require_file
from tribrain.stimuli.tracks import VideoTrack

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
DESIGN_SUFFIXES = (".tsv",)
MID_GREY = 128

_FILE_COLUMNS = ("file", "stim_file")
_CONDITION_COLUMNS = ("condition", "trial_type")
_NOTHING = "n/a"  # of BIDS: no picture, no condition
_ORIENTATION = 0x0112  # tag of EXIF; 5 to 8 swap width and height
_SAME_MOMENT = 1e-6  # seconds; onsets and durations added up are seldom equal to the last bit


@dataclass(frozen=True)
class PictureEvent:
    """A picture on the screen from `onset` for `duration` seconds.

    `file` is None where the screen is blank on purpose; `condition` is None where none is given.
    """

    file: Path | None
    onset: float
    duration: float
    condition: str | None = None


@dataclass(frozen=True, eq=False)
class PictureShow:
    """Pictures one after the other.

    Attributes
    ----------
    track : VideoTrack
        The silent film; a frame is a change of what is on the screen.
    events : tuple of PictureEvent
        By onset, not overlapping.
    notes : tuple of str
        What was passed over, in plain words.
    """

    track: VideoTrack
    events: tuple[PictureEvent, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> pd.DataFrame:
        """The events as a BIDS-like table: onset, duration (s), condition, file (its path); where
        there is no condition or no picture, a missing value.
        """
        import pandas as pd

        columns = ["onset", "duration", "condition", "file"]
        rows = [
            (e.onset, e.duration, e.condition, None if e.file is None else str(e.file))
            for e in self.events
        ]
        return pd.DataFrame(rows, columns=columns)


def picture_track(path: str | Path, duration: float) -> VideoTrack:
    """A picture shown for `duration` seconds, as a track of one frame."""
    path = require_file(path, "picture")
    _check_duration(duration)
    height, width = read_picture(path).shape[:2]
    times = np.zeros(1)
    return VideoTrack(
        path, None, 0.0, float(duration), times, None, size=(width, height), pictures=(path,)
    )


def picture_show(path: str | Path, *, duration: float = 20.0, blank: float = 0.0) -> PictureShow:
    """Pictures as a silent film: of a folder, of a design, or a single one.

    Of every picture the head is read here, so that one that is missing or of another kind is
    found before anything runs; the rest is read when it is looked at.

    Parameters
    ----------
    path : path
        A folder (its pictures by name, 2 before 10; hidden files and folders in it do not count),
        a design, or a picture. A design is a .tsv table, UTF-8, of the columns ``file`` (relative
        to the folder of the design; "n/a" is a blank screen), ``onset`` and ``duration`` (s) and,
        if wanted, ``condition``; ``stim_file`` and ``trial_type`` of BIDS are read as well. Its
        rows may come in any order; what they leave open is blank.
    duration : float
        Seconds that each picture of a folder is shown; a design has its own.
    blank : float
        Seconds of blank screen between the pictures of a folder.

    Returns
    -------
    PictureShow

    Raises
    ------
    InputError
        No picture, a missing or unreadable one, wrong columns or times, rows that overlap.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    notes: list[str] = []
    if path.is_dir():
        _check_duration(duration)
        if not 0 <= blank < math.inf:
            raise InputError(f"a blank screen of {blank:g} s between pictures; 0 or more fits")
        files, notes = _pictures_in(path)
        step = duration + blank
        events = [PictureEvent(file, k * step, duration) for k, file in enumerate(files)]
    elif suffix in DESIGN_SUFFIXES:
        events, notes = read_design(path)
    elif suffix in PICTURE_SUFFIXES:
        track = picture_track(path, duration)
        return PictureShow(track, (PictureEvent(track.path, 0.0, track.duration),))
    else:
        require_file(path, "pictures")
        raise InputError(
            f"{path.name} shows no pictures; what does is a folder of them, a design "
            f"({', '.join(DESIGN_SUFFIXES)}) or one picture ({', '.join(PICTURE_SUFFIXES)})"
        )
    return PictureShow(_track(path, events), tuple(events), tuple(notes))


def _check_duration(duration: float) -> None:
    if not 0 < duration < math.inf:
        raise InputError(f"a picture is shown for a positive time; {duration:g} s is not")


def _pictures_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Pictures of a folder in natural order, and what is said of the rest."""
    try:
        inside = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({type(error).__name__})") from None
    pictures = [e for e in inside if e.is_file() and e.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise InputError(
            f"folder {folder} holds no picture; known formats: {', '.join(PICTURE_SUFFIXES)}"
        )
    rest = sorted(one_line(entry.name) for entry in set(inside) - set(pictures))
    notes = []
    if rest:
        names = ", ".join(rest[:3]) + (" ..." if len(rest) > 3 else "")
        notes.append(f"in {one_line(folder.name)}, what is no picture is passed over: {names}")
    return sorted(pictures, key=_natural), notes


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Key that sorts names as people do: numbers by their value, letters whatever their case."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    # Every second part is figures; "²" and the like are letters here.
    key = [(int(part), "") if k % 2 else (-1, part) for k, part in enumerate(parts)]
    return key, path.name


def read_design(path: str | Path) -> tuple[list[PictureEvent], list[str]]:
    """Events of a design (see `picture_show`), by onset, and what is said of how it was read.

    Raises
    ------
    InputError
        Wrong columns or times, a missing picture, rows that overlap; the rows are named.
    """
    path = require_file(path, "design")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"design {path.name} is not UTF-8 text; save it as UTF-8") from None
    try:
        rows = list(csv.reader(io.StringIO(content), delimiter="\t", quoting=csv.QUOTE_NONE))
    except csv.Error as error:
        raise InputError(f"design {path.name} is not a table: {error}") from None
    table = [(n, row) for n, row in enumerate(rows, start=1) if any(c.strip() for c in row)]
    if not table:
        raise InputError(f"design {path.name} is empty")
    header = [cell.strip().lower() for cell in table[0][1]]
    file_column = _column(header, _FILE_COLUMNS, path)
    onset_column = _column(header, ("onset",), path)
    duration_column = _column(header, ("duration",), path)
    condition_column = next((header.index(c) for c in _CONDITION_COLUMNS if c in header), None)
    events: list[tuple[int, PictureEvent]] = []
    for number, row in table[1:]:
        cells = [cell.strip() for cell in row] + [""] * (len(header) - len(row))
        condition = cells[condition_column] if condition_column is not None else ""
        event = PictureEvent(
            _picture_of(cells[file_column], number, path),
            _seconds(cells[onset_column], "onset", number, path),
            _seconds(cells[duration_column], "duration", number, path),
            condition if condition not in ("", _NOTHING) else None,
        )
        if not event.duration > 0:
            raise InputError(f"design {path.name}, row {number}: the duration must be over 0 s")
        events.append((number, event))
    if not any(event.file for _, event in events):
        raise InputError(f"design {path.name} shows no picture")
    events.sort(key=lambda numbered: numbered[1].onset)
    for (row_a, a), (row_b, b) in itertools.pairwise(events):
        if b.onset < a.onset + a.duration - _SAME_MOMENT:
            raise InputError(
                f"design {path.name}: rows {row_a} and {row_b} overlap (one lasts until "
                f"{a.onset + a.duration:g} s, the other starts at {b.onset:g} s)"
            )
    used = {file_column, onset_column, duration_column, condition_column}
    unused = [one_line(name) for k, name in enumerate(header) if k not in used and name]
    notes = [f"{path.name}: columns not used: {', '.join(unused)}"] if unused else []
    return [event for _, event in events], notes


def _column(header: Sequence[str], names: Sequence[str], path: Path) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise InputError(
        f"design {path.name} has no column {' or '.join(names)}; "
        f"it has: {', '.join(map(repr, header))}"
    )


def _seconds(cell: str, column: str, number: int, path: Path) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InputError(
            f"design {path.name}, row {number}: {column} {cell!r} is not a time in seconds, "
            "0 or more"
        )
    return value


def _picture_of(cell: str, number: int, path: Path) -> Path | None:
    if cell == _NOTHING:
        return None
    file = path.parent / cell
    try:
        there = bool(cell) and "\0" not in cell and file.is_file()
    except OSError:  # a name too long, a folder that may not be looked into
        there = False
    if not there:
        raise InputError(
            f"design {path.name}, row {number}: picture {cell!r} is not there; files are looked "
            f"for in the folder of the design ({_NOTHING} is a blank screen)"
        )
    return file


def _track(path: Path, events: Sequence[PictureEvent]) -> VideoTrack:
    """Events, by onset, as a track that changes wherever the screen does."""
    times: list[float] = []
    pictures: list[Path | None] = []
    end = 0.0
    for event in events:
        onset = event.onset
        if onset > end + _SAME_MOMENT:
            times.append(end)
            pictures.append(None)
        else:
            onset = end
        times.append(onset)
        pictures.append(event.file)
        end = event.onset + event.duration
    sizes = {file: _picture_size(file) for file in dict.fromkeys(pictures) if file is not None}
    shapes = {width / height for width, height in sizes.values()}
    notes = []
    if max(shapes) > 1.01 * min(shapes):
        notes.append(
            "the pictures differ in shape; where they are looked at in one size, each is fitted "
            "into the shape of the first, on grey"
        )
    track = VideoTrack(
        path, None, 0.0, end, np.array(times), None, pictures=tuple(pictures), notes=tuple(notes)
    )
    return replace(track, size=_shown_size(track, 0))


def picture_frames(
    track: VideoTrack, numbers: Sequence[int], size: tuple[int, int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of pictures, each read when it is its turn; `numbers` ascend.

    A blank screen has the size of the picture before it, or of the first. With `size`, a picture
    is fitted in with its shape kept, on grey. Numbers past the last one show the last.

    Yields
    ------
    number : int
    frame : ndarray (height, width, 3), uint8
    """
    shown: tuple[Path | None, tuple[int, int]] | None = None
    frame = np.zeros((0, 0, 3), np.uint8)
    for number in numbers:
        place = min(number, len(track.pictures) - 1)
        file = track.pictures[place]
        width, height = size or (_shown_size(track, place) if file is None else (0, 0))
        if shown != (file, (width, height)):
            if file is None:
                frame = np.full((height, width, 3), MID_GREY, np.uint8)
            else:
                frame = read_picture(file, size)
            shown = file, (width, height)
        yield number, frame


def _shown_size(track: VideoTrack, place: int) -> tuple[int, int]:
    """Width and height of what is on the screen; a blank has those of the picture beside it."""
    places = itertools.chain(range(place, -1, -1), range(place, len(track.pictures)))
    beside = (track.pictures[k] for k in places)
    return _picture_size(next(file for file in beside if file is not None))


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture, upright; its head alone is read."""
    from PIL.Image import Exif

    with _opened(path) as image:
        exif = Exif()
        exif.load(image.info.get("exif", b""))  # `getexif` would decode a whole PNG
        turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
        width, height = image.size
        return (height, width) if turned else (width, height)


def read_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """A picture, upright and on white where it is transparent, (height, width, 3) of uint8.

    With `size` (width, height) it is fitted in with its shape kept; what is left is mid grey.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) / 257).round().astype(np.uint8))
        if upright.has_transparency_data:  # shown on white, as a page of paper
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        upright = upright.convert("RGB")
        return np.array(_fitted(upright, size) if size else upright)


def _fitted(image: Image, size: tuple[int, int]) -> Image:
    from PIL import Image

    width, height = size
    scale = min(width / image.width, height / image.height)
    inner_width = max(1, round(image.width * scale))
    inner_height = max(1, round(image.height * scale))
    # A single row or column of grey would be nothing but rounding.
    inner_width = width if width - inner_width <= 1 else inner_width
    inner_height = height if height - inner_height <= 1 else inner_height
    fitted = image.resize((inner_width, inner_height), Image.Resampling.BOX)
    if fitted.size == size:
        return fitted
    ground = Image.new("RGB", size, (MID_GREY,) * 3)
    ground.paste(fitted, ((width - inner_width) // 2, (height - inner_height) // 2))
    return ground


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """A picture opened by Pillow; what it cannot read is refused in one line."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            yield image
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(
            f"{path} cannot be read as a picture ({type(error).__name__}); "
            f"known formats: {', '.join(PICTURE_SUFFIXES)}"
        ) from None
