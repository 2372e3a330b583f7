"""Figures as files."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_prompt.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_picture(figure: "Figure", path: Path, **options: Any) -> None:
    """Saves a figure in the format that a path ends in, whole or not at all; options are those of ``savefig``.

    Raises:
        InputError: if the disk is full.
    """
    content = io.BytesIO()  # so that its size is known
    figure.savefig(content, format=path.suffix[1:], **options)
    write_whole(path, content.getbuffer())
