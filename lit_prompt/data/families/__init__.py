"""Families of targets: one file a family."""

from lit_prompt.data.families.base import EntropyGridFamily, TargetFamily, entropy_grid
from lit_prompt.data.families.dirichlet import Dirichlet
from lit_prompt.data.families.entropy_matched import EntropyMatched
from lit_prompt.data.families.from_file import FromFile
from lit_prompt.data.families.from_lm import FromLM
from lit_prompt.data.families.given import Given
from lit_prompt.data.families.one_hot import OneHot
from lit_prompt.data.families.outlier import Outlier
from lit_prompt.data.families.temperature import Temperature
from lit_prompt.data.families.uniform_subset import UniformSubset

__all__ = [
    "Dirichlet",
    "EntropyGridFamily",
    "EntropyMatched",
    "FromFile",
    "FromLM",
    "Given",
    "OneHot",
    "Outlier",
    "TargetFamily",
    "Temperature",
    "UniformSubset",
    "entropy_grid",
]
