"""What a report of a fault needs to say of the machine."""

import platform
from importlib.metadata import PackageNotFoundError, requires, version

from lit_prompt.embedded import embedded


def about_this_machine() -> str:
    """Versions of Python and of what this package depends on, and the devices, a line each."""
    import torch

    from lit_prompt.lm.half import computes_in_half

    names = sorted({_name(line) for line in requires("lit_prompt") or [] if "extra ==" not in line})
    optional = ("accelerate", "bitsandbytes", "gguf", "peft", "ray")
    lines = [f"Python {platform.python_version()}, {platform.platform()}"]
    lines += [f"{name} {found}" for name in names if (found := _version(name)) is not None]
    lines += [f"{name} {_version(name) or 'is not installed'}" for name in optional]
    lines.append(f"{torch.get_num_threads()} threads, bfloat16 on the CPU: {computes_in_half(torch.device('cpu'))}")
    lines += [f"cuda:{k} {torch.cuda.get_device_name(k)}" for k in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        lines.append("mps")
    return "\n".join([*lines, f"embedded files in {embedded('configs')}"])


def _name(requirement: str) -> str:
    return requirement.split(";")[0].split("[")[0].split(">")[0].split("<")[0].split("=")[0].split("!")[0].strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
