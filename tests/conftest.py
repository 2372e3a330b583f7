"""Tiny real LMs of every supported architecture, made on the spot: no network, no downloads."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MKL_CBWR", "AUTO")  # as the command sets it
# tiny matrices gain nothing from threads, and two test processes would wait for each other's
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor

from lit_prompt.main import main
from lit_prompt.search import PromptBank, TokenProblem

REPOSITORY = Path(__file__).parent.parent
EMBEDDED_LLAMA = REPOSITORY / "data" / "lms" / "tales-llama"
EMBEDDED_GPT2 = REPOSITORY / "data" / "lms" / "tales-gpt2"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_TEXT = [
    "Once upon a time there was a little girl who lived in a house by the sea.",
    "Yes, said the fox, and no, said the crow; one, two, three, four, five, six.",
    "The king had three sons, and the youngest of them was called Simple Hans.",
] * 20
VOCABULARY = 320
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
#: name: configuration of a two-layer model with random weights
ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
    ),
    "llama": lambda: transformers.LlamaConfig(**_GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**_GROUPED),
    "qwen3": lambda: transformers.Qwen3Config(**_GROUPED),
    "mistral": lambda: transformers.MistralConfig(**_GROUPED, sliding_window=None),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_SIZES),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=16, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        do_layer_norm_before=True,
    ),
    "post_norm": lambda: transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=32, bos_token_id=0, eos_token_id=0, pad_token_id=0,
        do_layer_norm_before=False,
    ),
    "gemma": lambda: transformers.GemmaConfig(**_GROUPED),
    "gemma2": lambda: transformers.Gemma2Config(**_GROUPED, query_pre_attn_scalar=8, sliding_window=32),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_GROUPED, query_pre_attn_scalar=8, sliding_window=32),
    "phi": lambda: transformers.PhiConfig(**_SIZES),
}  # fmt: skip


def _trained(*special: str) -> Any:
    """A byte-level BPE tokenizer with 320 tokens, trained on three sentences."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(_TEXT, trainer)
    return raw


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE tokenizer with 320 tokens, trained on three sentences."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=_trained("<|endoftext|>"), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )


#: What post-processors add to a text: nothing, BOS in front (Llama, Gemma), that and EOS behind.
FRONTS = {"none": "$A", "bos": "<s> $A", "bos_eos": "<s> $A </s>"}


@pytest.fixture(scope="session")
def make_lm_with_front(make_lm: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes (once) the folder of a tiny LM whose tokenizer adds one of ``FRONTS``."""
    made: dict[tuple[str, str], Path] = {}

    def make(front: str, architecture: str = "llama") -> Path:
        if (front, architecture) not in made:
            raw = _trained("</s>", "<s>")
            special = [(token, raw.token_to_id(token)) for token in ("<s>", "</s>")]
            raw.post_processor = processors.TemplateProcessing(single=FRONTS[front], special_tokens=special)
            folder = tmp_path_factory.mktemp("lms") / f"{front}-{architecture}"
            shutil.copytree(make_lm(architecture), folder, ignore=shutil.ignore_patterns("tokenizer*", "special*"))
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
            tokenizer.save_pretrained(folder)
            made[front, architecture] = folder
        return made[front, architecture]

    return make


@pytest.fixture(scope="session")
def make_lm(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes (once) the folder of a tiny LM: ``make_lm("llama", dtype=torch.float32, seed=0)``."""
    made: dict[tuple[str, torch.dtype, int], Path] = {}

    def make(architecture: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 0) -> Path:
        key = (architecture, dtype, seed)
        if key not in made:
            folder = tmp_path_factory.mktemp("lms") / f"tiny-{architecture}"
            torch.manual_seed(seed)
            config = ARCHITECTURES[architecture]()
            # wider weights than the default: a random LM whose next token depends on its input
            config.initializer_range = config.init_std = 0.3
            model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def tiny_lm(make_lm: Callable[..., Path]) -> Path:
    """Folder of a tiny Llama."""
    return make_lm("llama")


@pytest.fixture(scope="session")
def chat_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the embedded Llama with a chat template."""
    folder = tmp_path_factory.mktemp("lms") / "chat-llama"
    shutil.copytree(EMBEDDED_LLAMA, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def screening_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where screening in bfloat16 pays is measured, so that two equal searches could differ."""
    monkeypatch.setattr("lit_prompt.search.screening.computes_in_half", lambda device: False)


@pytest.fixture(autouse=True)
def few_natural_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the natural texts is enough where a tiny LM's prompts need not be good."""
    whole = PromptBank._natural

    def few(self: PromptBank, problem: TokenProblem, slot: int) -> Tensor | None:
        found = whole(self, problem, slot)
        return None if found is None else found[:24]

    monkeypatch.setattr(PromptBank, "_natural", few)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, where runs write their logs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(workdir: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command in this process and returns what it printed; fails unless its exit code is ``code``."""

    def run(*args: object, code: int = 0) -> str:
        capsys.readouterr()
        status = 0
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            status = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():  # a command that was interrupted ignores them until it has ended
                signal.signal(number, handler)
        printed = capsys.readouterr()
        assert status == code, printed.out + printed.err
        return printed.out + printed.err

    return run
