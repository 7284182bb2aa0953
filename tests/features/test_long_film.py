"""A film of two hours: bounded memory, and a second run that only reads what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

HOURS = 2

SCRIPT = """
import json, resource, sys, time
from pathlib import Path
from tribrain.viewing.feature_files import features_to_folder

def peak():
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024

film, cache = map(Path, sys.argv[1:])
start = time.perf_counter()
(outcome,) = features_to_folder([film], recipe="lite", cache=cache)
reuse = {name: [one.reused, one.computed] for name, one in outcome.reuse.items()}
spent = time.perf_counter() - start
print(json.dumps({"peak": peak(), "seconds": spent, "reuse": reuse, "error": outcome.error}))
"""


def write_long_film(path: Path) -> Path:
    """Two hours of 320x240 film with sound: coded once for a minute, its packets then repeated."""
    rng = np.random.default_rng(0)
    minute = path.with_name("minute.mkv")
    with av.open(str(minute), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.options = {"preset": "ultrafast", "bf": "0"}
        audio = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        scene = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
        for number in range(60 * 25):
            shifted = np.roll(scene, number // 5, axis=1)
            picture = np.kron(shifted, np.ones((8, 8, 1), np.uint8))
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        for number in range(60):
            samples = (rng.normal(size=(1, 16_000)) * 3000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16_000, number * 16_000
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    with av.open(str(path), "w") as out:
        with av.open(str(minute)) as first:
            copies = {s.index: out.add_stream_from_template(s) for s in first.streams}
        for number in range(HOURS * 60):
            with av.open(str(minute)) as one:
                for packet in one.demux():
                    if packet.dts is not None:
                        shift = round(number * 60 / packet.time_base)
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = copies[packet.stream.index]
                        out.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hours_in_bounded_memory_and_read_again_at_once(tmp_path):
    film = write_long_film(tmp_path / "long.mkv")

    def run(path: Path) -> dict:
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(path), str(tmp_path / "cache")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    little = run(tmp_path / "minute.mkv")
    first = run(film)
    assert first["error"] is None
    assert first["reuse"] == {"audio": [0, 120], "video": [0, 120]}
    assert first["peak"] < 2 * 2**30
    # Nothing that grows with the film but the numbers of its frames.
    assert first["peak"] - little["peak"] < 200 * 2**20
    second = run(film)
    assert second["reuse"] == {"audio": [120, 0], "video": [120, 0]}
    print(f"minute {little}; first {first}; second {second}")
