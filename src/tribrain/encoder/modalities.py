"""Which modalities a prediction uses."""

from __future__ import annotations

from collections.abc import Iterable

from tribrain.errors import InputError
from tribrain.stimuli.stimulus import Stimulus


def shared_modalities(
    readable: Iterable[str], stimulus: Stimulus, wanted: Iterable[str] | None
) -> tuple[str, ...]:
    """Modalities to use: those wanted, else all that the model reads and the stimulus has.

    Raises
    ------
    InputError
        A name that is unknown, or a modality that is wanted and not there.
    """
    readable = tuple(readable)
    present = tuple(name for name in readable if name in stimulus.modalities)
    if wanted is not None:
        wanted = tuple(wanted)
        for name in wanted:
            if name not in readable:
                raise InputError(f"modality {name!r} is unknown; known: {', '.join(readable)}")
            if name not in present:
                raise InputError(
                    f"{stimulus.path.name} has no {name}; it has: {', '.join(present) or 'none'}"
                )
        present = tuple(name for name in readable if name in wanted)
    if not present:
        raise InputError(
            f"{stimulus.path.name} has nothing that the model reads ({', '.join(readable)}); "
            + "; ".join(stimulus.notes)
        )
    return present
