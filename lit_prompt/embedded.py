"""Files that come with the project: configs, targets and a small LM, found from any folder."""

import os
from pathlib import Path

#: Where they are: in the project's own folder, or in the package that was built from it.
_PLACES = (Path(__file__).parents[1], Path(__file__).parent / "embedded_files")
_FOLDERS = ("configs", "data")


def embedded(name: str | os.PathLike[str]) -> str:
    """A path as it is given, unless it names such a file, ``data/...`` or ``configs/...``, and the user has none there.

    A ``~`` at its beginning is the user's home.
    """
    given = os.path.expanduser(name)
    path = Path(given)
    if path.parts[:1] and path.parts[0] in _FOLDERS and not path.exists():
        for place in _PLACES:
            if (place / "configs").is_dir() and (place / path).exists():
                return str(place / path)
    return given


def embedded_config(name: str | os.PathLike[str]) -> Path:
    """A config file: a path, or the name of an embedded one, such as ``demo`` for ``configs/demo.yaml``."""
    path = Path(embedded(name))
    if path.suffix or path.exists():
        return path
    found = Path(embedded(f"configs/{name}.yaml"))
    return found if found.exists() else path
