"""How a language model is loaded."""

from dataclasses import dataclass
from typing import Literal

from lit_prompt.lm.front import Bos

#: The embedded LM that is searched unless another is named.
DEFAULT_LM = "data/lms/tales-llama"


@dataclass
class LMOptions:
    """How the language model is loaded.

    Attributes:
        dtype: precision of the LM's weights; prompts, logits and losses stay in float32. ``auto`` is what the files
            hold. ``float32`` is exact and the default. ``float64`` raises what the
            architecture leaves to it (transformers computes RMSNorm and eager softmax in float32 all the same).
        device_map: where the weights go, in the words of accelerate (``auto``, ``balanced``, ``cpu``, ``cuda:1``), for
            an LM that is too big for one device; needs ``pip install accelerate``. By default the LM sits whole on the
            trainer's device.
        quantization: linear layers, without the head, in ``8bit`` (LLM.int8) or ``4bit`` (NF4), by bitsandbytes.
        attention: attention implementation (``eager``, ``sdpa``, ``flash_attention_2``); by default transformers picks.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run the model code that comes with the weights. Off: it is somebody else's program.
        bos: what stands in front of every text. ``auto``: what the tokenizer itself adds there, so that a prompt does
            when it is pasted what the results say. ``always``: BOS, also where the tokenizer adds nothing. ``never``:
            nothing. An EOS that the tokenizer appends is left out: a prompt is to be continued.
    """

    dtype: Literal["float32", "bfloat16", "float16", "float64", "auto"] = "float32"
    device_map: str | None = None
    quantization: Literal["8bit", "4bit"] | None = None
    attention: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    bos: Bos = "auto"
