"""What importing a part of the package costs."""

import subprocess
import sys

import pytest

_HEAVY = ["torch", "lightning", "transformers", "scipy", "matplotlib"]
_ALL_OF = """
import importlib, pkgutil
package = importlib.import_module("lit_prompt.{0}")
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"lit_prompt.{0}.{{module.name}}")
"""


def _loaded(code):
    code += f"\nimport sys\nprint(*(set({_HEAVY}) & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("package", ["records", "results", "report"])
def test_files_and_their_presentation_load_nothing_heavy(package):
    assert _loaded(_ALL_OF.format(package)) == []


@pytest.mark.parametrize(
    "module",
    [
        "search", "scoring", "objectives", "data", "data.families", "data.target", "data.target_set", "data.texts",
    ],
)  # fmt: skip
def test_what_is_below_lightning_loads_neither_it_nor_transformers(module):
    assert not {"lightning", "transformers"} & set(_loaded(f"import lit_prompt.{module}"))
