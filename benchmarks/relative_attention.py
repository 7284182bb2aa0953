"""Time and memory of the reordered self-attention of w2v-BERT 2.0, against `transformers`.

Both run the same random model of the published width in single precision on the CPU, each case in
a process of its own so that peaks of memory do not mix. A forward pass over a short sound comes
first and is not timed. Peaks are those of the whole process; "before" is the peak until the
timed pass (the libraries and the weights). The ratio of the processors' time is steadier than that
of the clock where other programs run as well.

Usage: python benchmarks/relative_attention.py [--seconds 15 30 60] [--layers 2] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from tribrain.features.relative_attention import use_reordered_attention

STATES_A_SECOND = 50


def peak_gb() -> float:
    """Largest memory of this process so far (GB; Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run_case(way: str, seconds: float, layers: int, file: Path) -> dict[str, float]:
    """One forward pass; its last hidden state is written to `file`."""
    torch.manual_seed(0)
    config = Wav2Vec2BertConfig(num_hidden_layers=layers, vocab_size=None)
    # The published width is the default of `transformers`.
    assert (config.hidden_size, config.num_attention_heads) == (1024, 16)
    assert config.intermediate_size == 4096
    model = Wav2Vec2BertModel(config).eval()
    for layer in model.encoder.layers:  # so large that they matter beside the keys
        torch.nn.init.normal_(layer.self_attn.distance_embedding.weight)
    if way == "ours":
        assert use_reordered_attention(model) == layers
    inputs = torch.randn(1, round(seconds * STATES_A_SECOND), 160)
    with torch.inference_mode():
        model(inputs[:, :100])
        before = peak_gb()
        start, cpu_start = time.perf_counter(), time.process_time()
        hidden = model(inputs).last_hidden_state
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    torch.save(hidden, file)
    return {"seconds": elapsed, "cpu": cpu, "before": before, "peak": peak_gb()}


def in_a_process(
    way: str, seconds: float, arguments: argparse.Namespace, file: Path
) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", way, str(file)]
    command += ["--seconds", str(seconds), "--layers", str(arguments.layers)]
    command += ["--threads", str(arguments.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, nargs="+", default=[15, 30, 60])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case:
        way, file = arguments.case
        print(json.dumps(run_case(way, arguments.seconds[0], arguments.layers, Path(file))))
        return
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.layers} layers")
    print(
        f"{'sound, s':>8}{'stock, s':>10}{'ours, s':>10}{'ratio':>8}{'CPU ratio':>11}"
        f"{'before, GB':>12}{'stock, GB':>11}{'ours, GB':>10}{'difference':>12}"
    )
    with tempfile.TemporaryDirectory() as folder:
        for seconds in arguments.seconds:
            files = {way: Path(folder) / f"{way}.pt" for way in ("stock", "ours")}
            cases = {
                way: in_a_process(way, seconds, arguments, file) for way, file in files.items()
            }
            stock, ours = cases["stock"], cases["ours"]
            hidden = {way: torch.load(file) for way, file in files.items()}
            difference = (hidden["ours"] - hidden["stock"]).abs().max().item()
            print(
                f"{seconds:>8g}{stock['seconds']:>10.2f}{ours['seconds']:>10.2f}"
                f"{stock['seconds'] / ours['seconds']:>7.1f}x{stock['cpu'] / ours['cpu']:>10.1f}x"
                f"{ours['before']:>12.2f}{stock['peak']:>11.2f}{ours['peak']:>10.2f}{difference:>12.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
