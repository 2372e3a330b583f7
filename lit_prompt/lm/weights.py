"""What is wrong with an LM's weights that transformers would pass over: other files, other names, other shapes."""

import json
import logging
import re
from pathlib import Path
from typing import Any

from lit_prompt.errors import InputError

# masks and positions that former versions of an architecture kept beside its weights, and it now computes
_FORMER = re.compile(r"(^|\.)(attn|attention)\.(bias|masked_bias|causal_mask)$|\.inv_freq$|decoder\.version$")


def refuse_other_files(lm: str, source: dict[str, Any]) -> None:
    """Refuses an LM whose index, or configuration, names weights that are no safetensors files of its own.

    Transformers loads what they name: pickled weights, and files outside the LM's folder.

    Args:
        lm: as the user has named it.
        source: where ``from_pretrained`` is to look.

    Raises:
        InputError: names the first of them.
    """
    from transformers import PretrainedConfig
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

    settings, _ = PretrainedConfig.get_config_dict(**source)
    index = SAFE_WEIGHTS_INDEX_NAME
    if (named := settings.get("transformers_weights")) is not None:
        _check(lm, "config.json", named, (".safetensors", ".safetensors.index.json"))
        index = str(named)
    parts = _read(source, index) if index.endswith(".json") else None
    if parts is None:
        return
    if not isinstance(parts, dict) or not isinstance(files := parts.get("weight_map"), dict):
        raise InputError(f"--lm: {index} of {lm} is damaged (it holds no weight_map); fetch it again")
    for file in files.values():
        _check(lm, index, file, (".safetensors",))


def _read(source: dict[str, Any], name: str) -> Any:
    """A JSON file of an LM, None where it has no such file."""
    from transformers.utils import cached_file

    where = {key: source[key] for key in ("revision", "local_files_only")}
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    path = cached_file(source["pretrained_model_name_or_path"], name, **where, **quiet)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def _check(lm: str, name: str, file: Any, suffixes: tuple[str, ...]) -> None:
    parts = re.split(r"[\\/]", str(file))
    outside = ".." in parts or not parts[0] or parts[0].endswith(":")
    if outside or not str(file).endswith(suffixes):
        raise InputError(
            f"--lm: {name} of {lm} names {file}, which is no safetensors file of its folder; convert its weights to "
            "safetensors (pickled weights can run code and are not loaded)"
        )


def silence_report() -> None:
    """Keeps transformers from printing a table of what :func:`refuse_mismatch` says in a line."""
    logging.getLogger("transformers.modeling_utils").addFilter(_is_no_report)


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


def refuse_mismatch(lm: str, report: dict[str, Any]) -> None:
    """Refuses an LM whose files and configuration differ, in whose place transformers would go on with random numbers.

    Args:
        lm: as the user has named it.
        report: of ``from_pretrained`` with ``output_loading_info`` and ``ignore_mismatched_sizes``.

    Raises:
        InputError: names the first weight that is missing, of another shape, or that nothing calls for.
    """
    if shapes := sorted(report["mismatched_keys"]):
        name, found, wanted = shapes[0]
        others = f" (and {len(shapes) - 1} more)" if len(shapes) > 1 else ""
        why = f"hold {name} of shape {_shape(found)}{others}, where its configuration calls for {_shape(wanted)}"
    elif missing := sorted(report["missing_keys"]):
        why = f"lack {len(missing)} weights that its configuration calls for, such as {missing[0]}"
    elif unknown := sorted(key for key in report["unexpected_keys"] if not _FORMER.search(key)):
        why = f"hold {len(unknown)} weights that its configuration has no place for, such as {unknown[0]}"
    else:
        return
    raise InputError(f"--lm: the files of {lm} {why}; its config.json belongs to other weights")


def _shape(sizes: Any) -> str:
    return " x ".join(map(str, sizes)) or "none"
