"""What importing a part of the package costs."""

import subprocess
import sys

import pytest

_ALL_OF = """
import importlib, pkgutil, sys
package = importlib.import_module("lit_prompt.{0}")
for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"lit_prompt.{0}.{{module.name}}")
print(*({{"torch", "lightning", "transformers", "scipy", "matplotlib"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("package", ["records", "results", "report"])
def test_files_and_their_presentation_load_nothing_heavy(package):
    done = subprocess.run([sys.executable, "-c", _ALL_OF.format(package)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
