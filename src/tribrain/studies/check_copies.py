"""What is in a study twice: BOLD under two names, stimuli that are mixed up."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from tribrain.errors import InputWarning
from tribrain.files import one_line
from tribrain.studies.runs import FeatureArrays, Problem, Run, Shown, Source, file_checksum

Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""
Parts = dict[str, list[tuple[str, str]]]
"""Run and part of all BOLD that has a checksum, by that."""
TOO_LONG = 1.0
"""Seconds by which something may be shown for longer or shorter than its file."""
TOO_LONG_SHARE = 0.02
"""The same as a share of the file's length; the larger of both counts."""
OVERLAP = 0.1
"""Seconds by which one thing may begin before the last has ended: screens are no more exact."""
_NAMED = 3  # examples in a line
T = TypeVar("T")


def followed(items: Iterable[T], what: str, progress: Progress | None) -> Iterator[T]:
    """The items, telling after each how many are done."""
    items = list(items)
    for done, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            progress(what, done, len(items))


def copied_values(copies: Parts) -> Iterator[Problem]:
    """Parts of runs that hold the same values: of two runs, or left and right of one."""
    twice: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (first, part), *others in copies.values():
        for run, other in others:
            twice[run, first].append(other if other == part else f"{other}, as {part}")
    for (run, first), same in twice.items():
        what = f"holds the same values as {first}" if run != first else "holds values twice"
        yield Problem(run, f"{what} ({'; '.join(same)})", fatal=False)


def copied_files(runs: list[Run], progress: Progress | None) -> Iterator[Problem]:
    """Runs that share a file of BOLD, or have files of the same content."""
    owners: dict[Path, list[Run]] = defaultdict(list)
    for run in runs:
        for path in run.bold.files:
            owners[path].append(run)
    for path, sharing in owners.items():
        for place, run in enumerate(sharing):
            # An array may hold many runs: those that read the same part of it are one.
            same = next((one.name for one in sharing[:place] if one.bold == run.bold), None)
            if same is not None:
                yield Problem(run.name, f"reads the same BOLD as {same}, {path.name}", fatal=False)
    alike: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for path in followed([path for path in owners if path.is_file()], "files", progress):
        alike[_glance(path)].append(path)
    contents: dict[str, Path] = {}
    twice: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in [path for paths in alike.values() if len(paths) > 1 for path in paths]:
        first = contents.setdefault(file_checksum(path), path)
        if first != path:
            names = (owners[path][0].name, owners[first][0].name)
            twice[names].append(f"{path.name} is {first.name}")
    for (run_name, other), pairs in twice.items():
        what = f"has files of the same content as {other}: {'; '.join(pairs)}"
        yield Problem(run_name, what, fatal=False)


def _glance(path: Path) -> tuple[int, str]:
    """Size and some bytes of a file: files that differ here need not be read whole."""
    size, piece = path.stat().st_size, 1 << 16
    total = sha256()
    with path.open("rb") as file:
        for place in (0, size // 2, max(0, size - piece)):
            file.seek(place)
            total.update(file.read(piece))
    return size, total.hexdigest()


class Stimuli:
    """Everything that was shown; each is opened and read once."""

    def __init__(self) -> None:
        self.shown: dict[str, list[Shown]] = defaultdict(list)
        self.contents: dict[str, str] = {}
        self._durations: dict[str, float | Exception] = {}

    def durations(self, run: Run, end: float | None = None) -> Iterator[str]:
        """Durations shown against those of the files; what cannot be opened.

        Parameters
        ----------
        run : Run
        end : float, optional
            Second of the run from which on it ends: what is shown until then may be cut short.
        """
        found: dict[str, None] = {}
        for shown in run.shown:
            self.shown[_identity(shown.source)].append(shown)
            if all(path.exists() for path in shown.source.files):  # or else it is missing
                try:
                    found |= dict.fromkeys(self._duration(shown, end))
                except Exception as error:  # one damaged film among many
                    found[f"{shown_name(shown)} cannot be opened: {one_line(str(error))}"] = None
        yield from list(found)[:_NAMED]
        if len(found) > _NAMED:
            yield f"{len(found) - _NAMED} more things shown do not fit their files"

    def _duration(self, shown: Shown, last: float | None) -> Iterator[str]:
        whole = self._whole(shown.source)
        end, slack = shown.start + shown.duration, max(TOO_LONG, TOO_LONG_SHARE * whole)
        name = shown_name(shown)
        if end > whole + slack:
            yield f"{name} is shown until its second {end:.1f}, and lasts {whole:.1f} s"
        # Where parts of a film are shown, each is shorter than the film.
        elif shown.start == 0 and end < whole - slack and (last is None or shown.end < last):
            yield f"{name} is shown for {shown.duration:.1f} s, and lasts {whole:.1f} s"

    def _whole(self, source: Source) -> float:
        identity = _identity(source)
        if identity not in self._durations:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)  # of its words, which do not matter
                try:
                    self._durations[identity] = source.duration()
                except Exception as error:
                    self._durations[identity] = error
        known = self._durations[identity]
        if isinstance(known, Exception):
            raise known
        return known

    def mixed_up(self, progress: Progress | None) -> Iterator[Problem]:
        """The same content under two names or in two groups, and the same name of two contents."""
        contents: dict[str, set[str]] = defaultdict(set)
        spans: dict[str, list[Shown]] = defaultdict(list)
        names: dict[str, set[str]] = defaultdict(set)
        for identity, shown in followed(self.shown.items(), "stimuli", progress):
            source = shown[0].source
            if not all(path.exists() for path in source.files):
                continue
            name = shown_name(shown[0])
            try:
                content = self.contents[identity] = source.content()
            except Exception as error:
                yield Problem(name, f"cannot be read: {one_line(str(error))}", fatal=False)
                continue
            contents[content].add(name)
            spans[content] += shown
            # Arrays of several films may lie in one file.
            if not isinstance(source, FeatureArrays):
                names[name].add(content)
        for content, by_name in contents.items():
            if len(by_name) > 1:
                what = f"has the same content as {listed(sorted(by_name)[1:])}"
                yield Problem(min(by_name), what, fatal=False)
            groups = _entangled(spans[content])
            if len(groups) > 1:
                what = f"is in {len(groups)} groups, and must stay in one: {listed(groups)}"
                yield Problem(min(by_name), what, fatal=False)
        for name, found in names.items():
            if len(found) > 1:
                yield Problem(name, f"is the name of {len(found)} different contents", fatal=False)

    def counts(self) -> Mapping[str, int]:
        """How often each was shown, by its name; equal content counts as one."""
        named: dict[str, str] = {}
        counted: Counter[str] = Counter()
        for identity, shown in self.shown.items():
            content = self.contents.get(identity, identity)
            counted[named.setdefault(content, shown_name(shown[0]))] += len(shown)
        return counted


def _entangled(shown: list[Shown]) -> list[str]:
    """Groups that share seconds of one content: parts of a film may be groups of their own."""
    found: set[str] = set()
    reached: list[Shown] = []
    for one in sorted(shown, key=lambda one: one.start):
        reached = [
            other
            for other in reached
            if other.start == one.start or _last(other) > one.start + OVERLAP
        ]
        others = {other.group for other in reached} - {one.group}
        if others:
            found |= others | {one.group}
        if not any(other.group == one.group and _last(other) >= _last(one) for other in reached):
            reached.append(one)
    return sorted(found)


def _last(shown: Shown) -> float:
    return shown.start + shown.duration


def _identity(source: Source) -> str:
    if isinstance(source, FeatureArrays):
        return str(id(source))
    # A table of words may hold several parts, each a stimulus of its own.
    return f"{source.files} {getattr(source, 'options', {})} {getattr(source, 'part', '')}"


def shown_name(shown: Shown) -> str:
    """Name of the file, or of the group where there is none."""
    return shown.source.files[0].name if shown.source.files else shown.group


def listed(names: list[str], most: int = _NAMED) -> str:
    """The first names, and how many there are beside them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
