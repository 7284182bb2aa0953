"""A response of two hours on fsaverage5: saved, summarised and reported in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
import tribrain
from tribrain.brain.response import Response
from tribrain.viewing.report import report_page

rows = np.empty((7200, 20484), np.float32)
for first in range(0, 7200, 400):
    rows[first : first + 400] = np.random.default_rng(first).standard_normal((400, 20484))
attrs = dict(model="made", revision="1", licence="CC0", label="made", subject="unseen",
             modalities=["audio"])
response = Response.from_rows(rows, lag=5.0, stimulus=np.ones(7200, bool), space="fsaverage5",
                              attrs=attrs, provenance={})
del rows
folder = Path(sys.argv[1])
response.save(folder, "film", formats=("gifti", "cifti", "mgh"))
del response
response = tribrain.load_response(folder)
table = response.region_table()
peak = response.peak()
response.contrast([(0, 3600)], [(3600, 7200)])
report_page(response, None)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
used = used if sys.platform == "darwin" else used * 1024
largest = float(response.data.values.max())
print(json.dumps({"used": used, "regions": len(table), "peak": peak.value, "largest": largest}))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory")
def test_two_hours_are_saved_and_summarised_in_under_3_gib(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["used"] < 3 * 2**30, f"{found['used'] / 2**30:.2f} GiB"
    assert found["regions"] == 40
    assert 0 < found["peak"] <= found["largest"]
