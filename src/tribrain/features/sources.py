"""Many stimuli: found in folders and lists, each with the transcript and the text beside it."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tribrain.errors import InputError
from tribrain.files import safe_name
from tribrain.stimuli.media import PICTURE_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES
from tribrain.stimuli.stimulus import TEXT_SUFFIXES, Stimulus

_MEDIA = (*VIDEO_SUFFIXES, *SOUND_SUFFIXES, *PICTURE_SUFFIXES)
_LISTS = (".tsv", ".csv")
_COLUMNS = ("stimulus", "transcript", "text", "language", "duration")
_BESIDE = ("_words.tsv", ".tsv", ".csv", ".srt", ".vtt", ".TextGrid")


@dataclass(frozen=True)
class Source:
    """A stimulus file and what belongs to it; `name` is its own among those asked for."""

    path: Path
    name: str
    transcript: Path | None = None
    text: Path | None = None
    language: str | None = None
    duration: float = 20.0

    def open(self, modalities: Collection[str]) -> Stimulus:
        """Make the stimulus; speech is heard only if text is among the modalities wanted."""
        listen = "auto" if "text" in modalities else "none"
        return Stimulus.open(
            self.path,
            transcript=self.transcript,
            text=self.text,
            duration=self.duration,
            language=self.language,
            recogniser=listen,
            aligner=listen,
        )


def find_sources(
    places: Sequence[Path],
    *,
    transcript: Path | None = None,
    text: Path | None = None,
    language: str | None = None,
    duration: float = 20.0,
) -> list[Source]:
    """Find the stimuli in files, folders and lists.

    A folder is searched with all that is in it. Beside ``NAME.mp4``, ``NAME_words.tsv``,
    ``NAME.tsv``, .csv, .srt, .vtt or .TextGrid is its transcript and ``NAME.txt`` its text. A list
    is a .tsv or .csv with a column ``stimulus``, and ``transcript``, ``text``, ``language`` and
    ``duration`` where they are known; its paths start from its own folder.

    Parameters
    ----------
    transcript, text : path, optional
        Of the one stimulus, where there is one.
    language, duration
        As in `Stimulus.open`; what a list says goes first.

    Raises
    ------
    InputError
        A folder or list without stimuli, a list without the column, a transcript for several
        stimuli.
    """
    found: list[Source] = []
    for place in places:
        if place.is_dir():
            found += _in_folder(place, language, duration)
        elif place.suffix.lower() in _LISTS:
            found += _in_list(place, language, duration)
        else:
            found.append(Source(place, "", transcript, text, language, duration))
    own = (found[0].transcript, found[0].text) if len(found) == 1 else None
    if (transcript or text) and own != (transcript, text):
        raise InputError(
            "--transcript and --text fit one file; for several, name them in a list (.tsv with "
            "the columns stimulus, transcript, text) or lay them beside each stimulus"
        )
    distinct = list({_told_apart(one): one for one in found}.values())
    names = _names([one.path for one in distinct])
    return [
        Source(one.path, name, one.transcript, one.text, one.language, one.duration)
        for one, name in zip(distinct, names, strict=True)
    ]


def _told_apart(source: Source) -> tuple[object, ...]:
    """What makes a stimulus another one, however its paths are written."""
    paths = (source.path, source.transcript, source.text)
    plain = (os.path.abspath(path) if path is not None else None for path in paths)  # noqa: PTH100
    return (*plain, source.language, source.duration)


def _in_folder(folder: Path, language: str | None, duration: float) -> list[Source]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    files = [f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts)]
    media = [file for file in files if file.suffix.lower() in _MEDIA]
    stems = {file.with_suffix("") for file in media}
    every_text = [file for file in files if file.suffix.lower() in TEXT_SUFFIXES]
    texts = [file for file in every_text if file.with_suffix("") not in stems]
    own_texts = {file.with_suffix(""): file for file in every_text}
    if not media and not texts:
        raise InputError(
            f"folder {folder} holds no stimulus; known: {', '.join((*_MEDIA, *TEXT_SUFFIXES))}"
        )
    sources = []
    for file in sorted([*media, *texts]):
        beside = [file.with_name(file.stem + ending) for ending in _BESIDE]
        transcript = next((one for one in beside if one.is_file()), None)
        own_text = own_texts.get(file.with_suffix("")) if file in media else None
        sources.append(Source(file, "", transcript, own_text, language, duration))
    return sources


def _in_list(file: Path, language: str | None, duration: float) -> list[Source]:
    import pandas as pd

    from tribrain.files import require_file

    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    path = require_file(file, "list")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, sep=separator, dtype=str, index_col=False)
    except pd.errors.ParserWarning:
        raise InputError(f"list {file.name}: a line has more cells than the header") from None
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"list {file.name} cannot be read: {reason}") from None
    if "stimulus" not in table:
        raise InputError(
            f"list {file.name} has no column 'stimulus'; it has: {', '.join(map(str, table))} "
            f"(columns that are read: {', '.join(_COLUMNS)})"
        )
    if table.empty:
        raise InputError(f"list {file.name} names no stimulus below its header")
    sources = []
    for number, row in enumerate(table.to_dict("records"), start=2):
        given = {k: str(v).strip() for k, v in row.items() if isinstance(v, str) and v.strip()}
        if "stimulus" not in given:
            raise InputError(f"list {file.name}, line {number}: no stimulus")
        try:
            shown = float(given.get("duration", duration))
        except ValueError:
            raise InputError(
                f"list {file.name}, line {number}: duration {given['duration']!r} is no number"
            ) from None
        paths = {
            key: file.parent / given[key] if key in given else None
            for key in ("transcript", "text")
        }
        sources.append(
            Source(
                file.parent / given["stimulus"],
                "",
                paths["transcript"],
                paths["text"],
                given.get("language", language),
                shown,
            )
        )
    return sources


def _names(paths: Iterable[Path]) -> list[str]:
    """A name for each file: its stem, with as many folders before it as tell it from others.

    Names that differ in case alone are taken for the same, as some file systems do.
    """
    paths = [path.absolute() for path in paths]
    names = [safe_name(path.stem) for path in paths]
    for depth in range(1, max((len(path.parts) for path in paths), default=0)):
        folders = defaultdict(set)
        for path, name in zip(paths, names, strict=True):
            folders[name.casefold()].add(path.parent)
        names = [
            safe_name("_".join([*path.parts[1:][-1 - depth : -1], path.stem]))
            if len(folders[name.casefold()]) > 1
            else name
            for path, name in zip(paths, names, strict=True)
        ]
    wanted = Counter(name.casefold() for name in names)
    names = [  # one stem, several kinds of file
        safe_name(f"{name}_{path.suffix[1:].lower()}") if wanted[name.casefold()] > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]
    taken = {name.casefold() for name in names}
    given: set[str] = set()
    for place, name in enumerate(names):  # one file, several transcripts
        if name.casefold() in given:
            numbered = (f"{name}_{number}" for number in count(2))
            names[place] = next(one for one in numbered if one.casefold() not in taken)
        given.add(names[place].casefold())
        taken |= given
    return names
