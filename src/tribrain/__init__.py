"""Predict the fMRI response of the human brain to films, sounds and texts.

>>> import tribrain
>>> model = tribrain.load_model("textbook")
>>> stimulus = tribrain.Stimulus.from_video("clip.mp4")   # doctest: +SKIP
>>> response = model.predict(stimulus)                    # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tribrain.brain.export import load_response
    from tribrain.brain.response import Response
    from tribrain.encoder.models import load_model
    from tribrain.errors import InputError, InputWarning
    from tribrain.stimuli.stimulus import Stimulus

__all__ = ["InputError", "InputWarning", "Response", "Stimulus", "load_model", "load_response"]

# Imported when first used, so that `import tribrain` is quick.
_HOMES = {
    "InputError": "tribrain.errors",
    "InputWarning": "tribrain.errors",
    "Response": "tribrain.brain.response",
    "Stimulus": "tribrain.stimuli.stimulus",
    "load_model": "tribrain.encoder.models",
    "load_response": "tribrain.brain.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tribrain' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
