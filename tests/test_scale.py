"""The benchmark of very many targets, on few."""

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_the_benchmark_measures_a_run_and_its_results(tmp_path):
    options = ["--targets", "150", "--chunk-sizes", "1", "64", "--processes", "1", "2", "--folder", str(tmp_path)]
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "scale.py"), *options]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY).stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:1] == "|"]
    files = [(size, processes, of) for size, processes, _, _, _, share, of, *_ in rows[2:6] if share.endswith("%")]
    assert files == [("1", "1", "150"), ("1", "2", "150"), ("64", "1", "3"), ("64", "2", "3")]
    assert [row[0] for row in rows if row[0][:1].isalpha()] == [
        "chunk size", "chunk size", "what", "imports", "test: print and write", "report",
    ]  # fmt: skip
    assert not list(tmp_path.iterdir())
