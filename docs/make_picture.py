"""Make the README's picture: moments of the example film and the response predicted for them.

Usage: python docs/make_picture.py [FILE]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import matplotlib.image
from matplotlib.figure import Figure

import tribrain
from tribrain.stimuli.media import iter_frames
from tribrain.viewing.figures import colour_limit, surface_figure

ROOT = Path(__file__).parents[1]
MOMENTS = {8: "a drifting grating", 20: "tones, an empty screen", 36: "speech, moving shapes"}


def main(path: Path) -> None:
    examples = ROOT / "examples"
    stimulus = tribrain.Stimulus.from_video(
        examples / "film.mp4", transcript=examples / "film_words.tsv"
    )
    assert stimulus.video is not None
    response = tribrain.load_model("textbook").predict(stimulus)
    limit = colour_limit(response)
    numbers = stimulus.video.frame_numbers(response.data["time"].values[list(MOMENTS)] + 0.5)
    frames = dict(iter_frames(stimulus.video, numbers.tolist()))
    figure = Figure(figsize=(9, 4.6))
    height = 1 / len(MOMENTS)
    for place, ((row, what), number) in enumerate(zip(MOMENTS.items(), numbers, strict=True)):
        bottom = 1 - (place + 1) * height
        axes = figure.add_axes((0.01, bottom + 0.05, 0.2, height - 0.07))
        axes.imshow(frames[int(number)])
        axes.set_axis_off()
        figure.text(0.11, bottom + 0.015, f"{row} s: {what}", ha="center", fontsize=8)
        axes = figure.add_axes((0.22, bottom, 0.78, height))
        brain = surface_figure(response.data.values[row], response.space, limit)
        buffer = io.BytesIO()
        brain.savefig(buffer, format="png", dpi=140)
        buffer.seek(0)
        axes.imshow(matplotlib.image.imread(buffer))
        axes.set_axis_off()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images/film.png")
