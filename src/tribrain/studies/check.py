"""What a study holds, what is missing, and what looks wrong, before anything is trained on it.

Nothing that looks wrong is certain to be: a film may well have been stopped before its end. Every
finding names its run, and no run stops the others.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tribrain.brain.spaces import Space
from tribrain.errors import InputError, InputWarning
from tribrain.files import one_line
from tribrain.studies.bids_bold import TimedBold
from tribrain.studies.check_copies import (
    OVERLAP,
    Parts,
    Progress,
    Stimuli,
    copied_files,
    copied_values,
    followed,
    listed,
    shown_name,
)
from tribrain.studies.check_values import odd_values, parts
from tribrain.studies.runs import BoldSource, Problem, Run, Shown, Study, sort_out
from tribrain.studies.sources import CiftiBold, SurfaceBold, VolumeBold

REST = 60.0
"""Seconds that a run may go on after what was shown, and share of the run."""
REST_SHARE = 0.1
_SAME_TIME = 1e-3  # of each other: repetition times that are stated as 1.49 and 1.4900001
Volumes = dict[str, int]
"""Volumes of each run, by its name."""


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes
    ----------
    study, licence, citation, tested_on : str
        As of the study.
    runs : tuple of Run
        All that the study gives.
    found : tuple of str
        Lines: people, sessions, tasks, hours, stimuli, spaces.
    problems : tuple of Problem
        Fatal are those that the study itself has left a run out for.
    """

    study: str
    licence: str
    citation: str
    tested_on: str
    runs: tuple[Run, ...]
    found: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def exit_code(self) -> int:
        """0 if nothing is wrong, else 1."""
        return 1 if self.problems else 0

    def lines(self) -> list[str]:
        """The report as text; what is wrong with many runs in one line."""
        where: dict[tuple[str, bool], list[str]] = defaultdict(list)
        for problem in self.problems:
            where[problem.what, problem.fatal].append(problem.where)
        lines = [
            f"study: {self.study}",
            f"licence: {self.licence}",
            f"citation: {self.citation}",
            f"loader tested on: {self.tested_on}",
            *self.found,
        ]
        if where:
            lines.append(f"what is missing or looks wrong: {len(self.problems)}")
        else:
            lines.append("nothing is missing, nothing looks wrong")
        for (what, fatal), names in where.items():
            lines.append(f"  {listed(names)}: {what}" + (" [left out]" if fatal else ""))
        return [one_line(line) for line in lines]


def check_lines(
    study: Study, *, deep: bool = False, progress: Progress | None = None
) -> tuple[list[str], int]:
    """The lines and the exit code of `check`, for the command line."""
    report = check(study, deep=deep, progress=progress)
    return report.lines(), report.exit_code


def check(study: Study, *, deep: bool = False, progress: Progress | None = None) -> CheckReport:
    """Look for what is missing and what looks wrong in a study.

    Looked at are files, headers, onsets and durations, and the contents of stimuli and of files of
    BOLD of equal size, to find those that are there twice.

    Parameters
    ----------
    study : Study
    deep : bool
        Also read the BOLD of every run (`tribrain.studies.check_values`).
    progress : function (what, done, total), optional

    Returns
    -------
    CheckReport
    """
    runs, problems = sort_out(_runs_of(study))
    stimuli = Stimuli()
    volumes: dict[str, int] = {}
    copies: Parts = defaultdict(list)
    for run in followed(runs, "runs", progress):
        steps: list[Iterator[str]] = [
            _missing(run),
            _clock(run, volumes),
            _timing(run, volumes),
            _confounds(run, volumes),
            _durations(run, volumes, stimuli),
        ]
        if deep:
            steps.append(_values(run, volumes, copies))
        for step in steps:
            problems += _guarded(run.name, step)
    problems += _guarded(study.name, copied_files(runs, progress))
    problems += _guarded(study.name, copied_values(copies))
    problems += _guarded(study.name, stimuli.mixed_up(progress))
    problems += _guarded(study.name, _spaces_differ(runs))
    return CheckReport(
        study=study.name,
        licence=study.licence,
        citation=study.citation,
        tested_on=study.tested_on,
        runs=tuple(runs),
        found=tuple(_summary(runs, volumes, stimuli)),
        problems=tuple(problems),
    )


def _guarded(where: str, found: Iterable[str | Problem]) -> Iterator[Problem]:
    """Findings of one look at a run or a study, the last of which may be that it failed."""
    try:
        for item in found:
            yield item if isinstance(item, Problem) else Problem(where, item, fatal=False)
    except InputError as error:
        yield Problem(where, one_line(str(error)), fatal=False)
    except Exception as error:  # no file may stop the others, whatever is wrong with it
        told = f"{type(error).__name__}: {one_line(str(error))}"
        yield Problem(where, f"cannot be read: {told}", fatal=False)


def _runs_of(study: Study) -> Iterator[Run | Problem]:
    try:
        yield from study.runs()
    except Exception as error:
        told = one_line(str(error))
        yield Problem(study.name, f"its runs cannot be read: {type(error).__name__}: {told}")


def _missing(run: Run) -> Iterator[str]:
    files = [*run.bold.files, *(path for shown in run.shown for path in shown.source.files)]
    files += [run.confounds] if run.confounds is not None else []
    for path in dict.fromkeys(files):
        if not path.exists():
            yield f"{path} does not exist"


def _is_missing(run: Run) -> bool:
    return not all(path.exists() for path in run.bold.files)


def _clock(run: Run, volumes: Volumes) -> Iterator[str]:
    """Repetition time of the study against that of header and sidecar."""
    if _is_missing(run):
        return
    volumes[run.name], stated = run.bold.header()
    yield from _other_time(run, stated, "its files state")


def _other_time(run: Run, seconds: float | None, who: str) -> Iterator[str]:
    if seconds is not None and abs(seconds - run.repetition_time) > _SAME_TIME * seconds:
        yield f"the study has a repetition time of {run.repetition_time:g} s, {who} {seconds:g} s"


def _timing(run: Run, volumes: Volumes) -> Iterator[str]:
    """What was shown against the length of the run, and against each other."""
    if run.name not in volumes or not run.shown:
        return
    n = volumes[run.name]
    end = _end(run, n)
    told = f"the run ends at {end:.1f} s ({n} volumes of {run.repetition_time:g} s)"
    late = [shown for shown in run.shown if shown.onset >= end]
    last = max(shown.end for shown in run.shown)
    if late:
        yield (
            f"{len(late)} of {len(run.shown)} things shown begin after the end of the run, the "
            f"first, {shown_name(late[0])}, at {late[0].onset:.1f} s; {told}"
        )
    elif last > end + run.repetition_time:
        yield f"what was shown lasts until {last:.1f} s, and {told}"
    elif end - last > max(REST, REST_SHARE * (end - _start(run))):
        yield f"what was shown ends at {last:.1f} s, and {told}"
    yield from _overlaps(run.shown)


def _durations(run: Run, volumes: Volumes, stimuli: Stimuli) -> Iterator[str]:
    """What was shown against its files; what the end of the run cut off explains itself."""
    end = None
    if run.name in volumes:
        end = _end(run, volumes[run.name]) - run.repetition_time
    yield from stimuli.durations(run, end)


def _overlaps(shown: tuple[Shown, ...]) -> Iterator[str]:
    before = shown[0]
    pairs = []
    for after in shown[1:]:
        if after.onset < before.end - OVERLAP:
            pairs.append((before, after))
        if after.end > before.end:
            before = after
    if pairs:
        one, other = pairs[0]
        began = f"{shown_name(other)}, at {other.onset:.1f} s"
        yield (
            f"{len(pairs)} of {len(shown)} things shown begin before the last one has ended: the "
            f"first, {began}, when {shown_name(one)} lasts until {one.end:.1f} s"
        )


def _start(run: Run) -> float:
    """Second of the run at which its first row lies, as far as it is known without reading it."""
    return float(getattr(run.bold, "start", 0.0))


def _end(run: Run, n: int) -> float:
    """Second of the run at which its last volume ends."""
    return _start(run) + n * run.repetition_time


def _confounds(run: Run, volumes: Volumes) -> Iterator[str]:
    if run.confounds is None or not run.confounds.is_file() or run.name not in volumes:
        return
    with run.confounds.open("rb") as file:
        rows = sum(1 for line in file if line.strip()) - 1
    if rows != volumes[run.name]:
        yield f"{run.confounds.name} has {rows} rows, and the run {volumes[run.name]} volumes"


def _values(run: Run, volumes: Volumes, copies: Parts) -> Iterator[str]:
    """What the values of a run show; its parts are noted to be compared with those of others."""
    if _is_missing(run):
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        series = run.bold.load()
    yield from dict.fromkeys(str(w.message) for w in caught if w.category is InputWarning)
    yield from _other_time(run, series.repetition_time, "its values come with")
    n = volumes.get(run.name, len(series.values))
    if len(series.values) != n:
        yield f"its header states {n} volumes, and it has {len(series.values)}"
    yield from odd_values(series)
    for part, checksum in parts(series).items():
        copies[checksum].append((run.name, part))


def _space(bold: BoldSource) -> str:
    """The space that BOLD was stored in, as far as it is known without reading it."""
    if isinstance(bold, TimedBold):
        return _space(bold.source)
    if isinstance(bold, VolumeBold):
        return bold.template
    if isinstance(bold, (SurfaceBold, CiftiBold)):
        named = re.search(r"_space-([^_.]+)", bold.files[0].name)
        kind = "surface" if isinstance(bold, SurfaceBold) else "CIFTI"
        return named[1] if named is not None else kind
    space = getattr(bold, "space", None)  # of arrays, and of a study of anybody's own
    return space.name if isinstance(space, Space) else type(bold).__name__


def _spaces(runs: list[Run]) -> dict[str, list[str]]:
    spaces: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        spaces[_space(run.bold)].append(run.name)
    return dict(sorted(spaces.items(), key=lambda item: -len(item[1])))


def _spaces_differ(runs: list[Run]) -> Iterator[str]:
    spaces = _spaces(runs)
    if len(spaces) > 1:
        told = "; ".join(f"{space}: {listed(names)}" for space, names in spaces.items())
        yield f"its runs lie in {len(spaces)} spaces: {told}"


def _summary(runs: list[Run], volumes: Volumes, stimuli: Stimuli) -> Iterator[str]:
    if not runs:
        yield "no run can be used"
        return
    people = sorted({run.subject for run in runs})
    sessions = {(run.subject, run.session) for run in runs if run.session}
    yield f"{_counted(len(runs), 'run')} of {_counted(len(people), 'person')}: {listed(people, 8)}"
    if sessions:
        yield _counted(len(sessions), "session")
    tasks = Counter(run.task for run in runs)
    of_tasks = [f"{task} ({_counted(n, 'run')})" for task, n in tasks.items()]
    yield f"tasks: {listed(of_tasks, 8)}"
    hours = sum(volumes.get(run.name, 0) * run.repetition_time for run in runs) / 3600
    times = sorted({f"{run.repetition_time:g} s" for run in runs})
    yield f"{hours:.2f} hours of BOLD, repetition time {', '.join(times)}"
    spaces = [f"{space} ({_counted(len(of), 'run')})" for space, of in _spaces(runs).items()]
    yield f"spaces: {', '.join(spaces)}"
    counts = stimuli.counts()
    each = [f"{name} {n} x" for name, n in sorted(counts.items(), key=lambda item: -item[1])]
    told = f": {listed(each, 8)}" if each else ""
    yield f"{_counted(len(each), 'distinct stimulus')}, shown {sum(counts.values())} times{told}"


_PLURALS = {"person": "people", "distinct stimulus": "distinct stimuli"}


def _counted(n: int, what: str) -> str:
    return f"{n} {what if n == 1 else _PLURALS.get(what, what + 's')}"
