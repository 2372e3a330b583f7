"""The documentation site: ``make docs`` builds it with Sphinx into ``docs/_build/html``."""

import os
import sys
from functools import partialmethod
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
# notebooks type lit_prompt, which lies beside the Python that builds
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

from typing import TYPE_CHECKING

from nbclient import NotebookClient
from program_help import write_helps
from sphinx.ext.napoleon.docstring import GoogleDocstring

from lit_prompt import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "lit_prompt"
copyright = "2026, the lit_prompt authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_inline"]
myst_heading_anchors = 3
# executed at build, and kept in docs/_build until their cells change
nb_execution_mode = "cache"
nb_execution_timeout = 1200
nb_execution_raise_on_error = True
nb_merge_streams = True
# what a cell prints arrives in pieces, which MyST-NB would put on lines of their own
NotebookClient.__init__ = partialmethod(NotebookClient.__init__, coalesce_streams=True)

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "training_step"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# "Ids of tokens: those that ..." says no type, as Napoleon reads it where a property is documented
GoogleDocstring._parse_attribute_docstring = lambda self: self._dedent(self._consume_to_end())

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
html_title = "lit_prompt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}


def setup(app: "Sphinx") -> None:
    """Lets the program print its helps before pages are read, which include them."""
    app.connect("builder-inited", lambda app: write_helps(DOCS / "_build" / "helps"))
