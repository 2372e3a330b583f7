"""A causal LM seen as a function from input embeddings to the next token's logits."""

import copy
import inspect
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_prompt.errors import InputError
from lit_prompt.functional.rough_products import rough_products
from lit_prompt.functional.rows import MIN_ROWS, pad_rows
from lit_prompt.lm.fingerprint import lm_fingerprint
from lit_prompt.lm.load import load_causal_lm
from lit_prompt.lm.options import LMOptions
from lit_prompt.lm.packed import Packed
from lit_prompt.lm.prefix_cache import PrefixCache
from lit_prompt.progress import phase


class FrozenLM(nn.Module):
    """A causal LM in eval mode whose weights get no gradient and stay out of checkpoints.

    The LM is split into *features* (what varies with the prompt) and a linear *head* that maps them to logits in
    float32. For an LM whose logits are a linear function of the last hidden state the features are that state, and a
    target p enters the search as its moments W^T p alone. Whether this holds is measured on a probe at load time. Where
    it does not (soft-capped logits) the features are the LM's own logits and the head is the identity.

    ``model`` is a ``transformers`` causal LM; all that is asked of it is that it takes ``inputs_embeds``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._positions_at_once: int | None = None
        #: how :meth:`rounded` has made it; None for an LM as loaded
        self.rounding: tuple[str, int | None] | None = None
        self.model = model.eval().requires_grad_(False)
        self.dispatched = getattr(model, "hf_device_map", None) is not None
        self.fingerprint = lm_fingerprint(model)
        self._head_copy: tuple[Tensor, Tensor | None] | None = None
        self._logit_scale = 1.0
        self.temperature = 1.0
        self.is_linear = False  #: whether logits are head(last hidden state), up to a constant scale
        accepted = inspect.signature(model.forward).parameters
        self._keeps_logits = "logits_to_keep" in accepted
        self._takes_positions = "position_ids" in accepted
        # eager attention is a product over items, which for a single one takes another kernel (as for MIN_ROWS)
        self._min_items = 2 if getattr(model.config, "_attn_implementation", None) == "eager" else 1
        probe = self.embed(torch.arange(3, device=self.device).unsqueeze(0))
        self.embedding_dim: int = probe.shape[-1]
        logits = self.model(inputs_embeds=probe, use_cache=False).logits[:, -1]
        self.vocab_size: int = logits.shape[-1]
        if not torch.isfinite(logits).all():
            raise InputError(
                "the LM's logits are not finite on a three-token probe; try --lm_options.dtype float32, or check its "
                "weights"
            )
        self.is_linear = self._head_is_linear(probe, logits)

    @classmethod
    def load(cls, lm: str, options: LMOptions, device: torch.device | None = None) -> "FrozenLM":
        """Loads an LM as :func:`load_causal_lm` does, to the machine's accelerator by default, where there is one.

        Raises:
            InputError: if it cannot be loaded, or the device does not take it.
        """
        if device is None and torch.accelerator.is_available():
            device = torch.accelerator.current_accelerator()
        model = load_causal_lm(lm, options, device)
        with phase(f"fingerprint of {Path(lm).name}"):  # all of its weights are read
            return cls(model)

    def rounded(self, dtype: torch.dtype, positions_at_once: int | None) -> "FrozenLM":
        """The same LM with other weights, rounded to a dtype; the head, and what was measured of the LM, it shares.

        With ``positions_at_once``, items go through it by so many positions, filled up where there are fewer.
        """
        rounded = {
            id(weight): nn.Parameter(weight.detach().to(dtype), requires_grad=False)
            for weight in self.model.parameters()
            if weight.is_floating_point()
        }
        other = copy.copy(self)
        other._modules = {"model": copy.deepcopy(self.model, rounded)}
        other._head_copy = self.head() if self.is_linear else None
        other._positions_at_once = positions_at_once
        other.rounding = (str(dtype), positions_at_once)
        return other

    def tempered(self, temperature: float) -> "FrozenLM":
        """The same LM with its logits, as :meth:`logits` gives them, divided by a temperature; weights are shared.

        Where features are the LM's own logits, :meth:`scaled` divides them.
        """
        if temperature == 1.0:
            return self
        other = copy.copy(self)
        other.temperature = temperature
        other._logit_scale, other._head_copy = self._logit_scale / temperature, None
        if self.rounding is not None and self.is_linear:  # whose own head is less precise than the one it shares
            weight, bias = self.head()
            other._head_copy = (weight / temperature, None if bias is None else bias / temperature)
        return other

    def scaled(self, features: Tensor) -> Tensor:
        """Features as :meth:`logits` takes them, at the LM's temperature."""
        return features if self.is_linear or self.temperature == 1.0 else features / self.temperature

    @property
    def _table(self) -> Tensor:
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the LM's weights."""
        return self._table.dtype

    @property
    def device(self) -> torch.device:
        """Device of the input embeddings."""
        return self._table.device

    @property
    def score_dtype(self) -> torch.dtype:
        """Dtype of features and logits: float32, or float64 for a float64 LM."""
        return torch.promote_types(self.dtype, torch.float32)

    @property
    def head_device(self) -> torch.device:
        """Device of features and logits."""
        weight: Tensor = self.model.get_output_embeddings().weight if self.is_linear else self._table
        return weight.device

    @property
    def max_length(self) -> int | None:
        """The most positions the LM takes; None where it has no such limit."""
        length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return None if length is None else int(length)

    @cached_property
    def takes_padding(self) -> bool:
        """Whether a mask makes left padding harmless, measured on a probe (LMs without attention may see it)."""
        probe = self.embed(torch.arange(8, device=self.device).unsqueeze(0))
        mask = torch.arange(8, device=self.device).unsqueeze(0) >= 5
        with torch.no_grad():
            alone, padded = self.features(probe[:, 5:]), self.features(probe, mask)
        # kernels of half precision differ by some roundings, an LM that sees the padding by far more
        tolerance = max(1e-3, 16 * torch.finfo(self.dtype).eps)
        return bool((padded - alone).abs().max() <= tolerance * alone.abs().max())

    def _head_is_linear(self, probe: Tensor, logits: Tensor) -> bool:
        head = self.model.get_output_embeddings()
        base = getattr(self.model, "base_model", self.model)
        if not isinstance(head, nn.Linear) or not head.weight.is_floating_point() or base is self.model:
            return False
        # a soft cap bends small logits by less than the probe can tell
        if getattr(self.model.config.get_text_config(), "final_logit_softcapping", None):
            return False
        self.is_linear = True
        predicted = self.logits(self.features(probe))
        # the LM rounds its logits to its own dtype, the head here does not
        tolerance = max(1e-4, 4 * torch.finfo(head.weight.dtype).eps)
        # configurations may name a scale of the logits; the probe tells which one is applied, if any
        config = self.model.config.get_text_config()
        named = (getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None))
        found = [float(value) for value in named if isinstance(value, (int, float)) and value > 0]
        for scale in (1.0, *(scale for value in found for scale in (value, 1.0 / value))):
            if (scale * predicted - logits).abs().max() <= tolerance * logits.abs().max():
                self._logit_scale, self._head_copy = scale, None
                return True
        return False

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, in the LM's dtype: ``[...]`` to ``[..., embedding]``."""
        embeddings: Tensor = self.model.get_input_embeddings()(ids.to(self.device))
        return embeddings

    def _fewest_items(self, positions: int) -> int:
        return max(self._min_items, -(-(self._positions_at_once or MIN_ROWS) // positions))

    def most_items(self, positions: int) -> int | None:
        """How many items of so many positions may go through the LM at once; None for any number."""
        return None if self._positions_at_once is None else self._fewest_items(positions)

    def features(
        self,
        inputs_embeds: Tensor,
        mask: Tensor | None = None,
        every: bool = False,
        cache: Any = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """What the head maps to next-token logits, from embeddings ``[item, position, embedding]`` of any dtype.

        The mask tells which positions are real, ``[item, position]``, bool, those of the cache included; the others are
        padding on the left. None: all are real. The cache is a ``transformers`` cache of what stands before, for items
        filled up as by ``pad_rows``; it is extended. With ``places``, that of each position in its sequence, ``[item,
        position]``, the mask tells what each position sees, ``[item, position, key]``, those of the cache first.

        Returns:
            ``[item, feature]``, or ``[item, position, feature]`` with ``every``; float32 (float64 for a float64 LM);
            differentiable in the embeddings.
        """
        items, positions = inputs_embeds.shape[:2]
        rows = self._fewest_items(positions)
        inputs_embeds = pad_rows(inputs_embeds, rows).to(self.dtype)
        arguments: dict[str, Any] = {"use_cache": cache is not None}
        if cache is not None:
            arguments["past_key_values"] = cache
        if mask is not None and places is not None:
            sees = pad_rows(mask, rows).to(self.device).unsqueeze(1)
            nothing = torch.zeros(sees.shape, dtype=self.dtype, device=self.device)
            arguments["attention_mask"] = nothing.masked_fill_(~sees, torch.finfo(self.dtype).min)
            arguments["position_ids"] = pad_rows(places, rows).to(self.device)
        elif mask is not None:
            mask = pad_rows(mask, rows).to(self.device).long()
            arguments["attention_mask"] = mask
            # a row's first real position is its position 0, in every scheme; what padding gets does not matter
            if self._takes_positions:
                arguments["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, -positions:]
        if self.is_linear:
            states = self.model.base_model(inputs_embeds=inputs_embeds, **arguments).last_hidden_state
            states = states.to(self.head_device)
        else:
            keep = {"logits_to_keep": 1} if self._keeps_logits and not every else {}
            states = self.model(inputs_embeds=inputs_embeds, **arguments, **keep).logits
        features: Tensor = states[:items] if every else states[:items, -1]
        return features.to(torch.promote_types(features.dtype, torch.float32))

    @torch.no_grad()
    def prefix_cache(self, ids: Tensor, mask: Tensor | None = None) -> PrefixCache:
        """Keys and values of token sequences ``[sequence, position]``, padded as in :meth:`features`."""
        return self.features_and_cache(self.embed(ids), mask)[1]

    def features_and_cache(
        self, inputs_embeds: Tensor, mask: Tensor | None = None, known: tuple[PrefixCache, Tensor, int] | None = None
    ) -> tuple[Tensor, PrefixCache]:
        """Features of the last position as of :meth:`features`, and the keys and values of the whole; differentiable.

        ``known`` are the cache, the sequences and the positions that the items begin with, as of
        :meth:`features_after`.
        """
        from transformers import DynamicCache

        items = len(inputs_embeds)
        cache = DynamicCache() if known is None else self._beginnings(*known, inputs_embeds)
        features = self.features(inputs_embeds, mask, False, cache)
        return features, PrefixCache([(layer.keys[:items], layer.values[:items]) for layer in cache.layers])

    def _beginnings(self, cache: PrefixCache, sequences: Tensor, positions: int, inputs_embeds: Tensor) -> Any:
        return cache.beginnings(pad_rows(sequences, self._fewest_items(inputs_embeds.shape[1])), positions)

    def features_continued(
        self, cache: PrefixCache, sequences: Tensor, inputs_embeds: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Features after every position of what continues whole sequences of a cache, ``[item]``; differentiable.

        ``[item, position, feature]``, from embeddings ``[item, position, embedding]``; the mask is that of the whole.
        """
        past = self._beginnings(cache, sequences, cache.length, inputs_embeds)
        return self.features(inputs_embeds, mask, True, past)

    @cached_property
    def cache_bytes_per_position(self) -> int:
        """Memory of the keys and values of one position of an item."""
        return self.prefix_cache(torch.zeros(1, 1, dtype=torch.long)).bytes_per_position()

    @torch.no_grad()
    def features_after(
        self,
        cache: PrefixCache,
        sequences: Tensor,
        positions: int,
        inputs_embeds: Tensor,
        mask: Tensor | None = None,
        every: bool = False,
    ) -> Tensor:
        """As :meth:`features`, of embeddings that continue beginnings of cached sequences.

        Each item begins with the first ``positions``, at least 1, of one of the ``sequences``, ``[item]``. The mask is
        that of the whole, cached positions included.
        """
        return self.features(inputs_embeds, mask, every, self._beginnings(cache, sequences, positions, inputs_embeds))

    @torch.no_grad()
    def features_packed(self, cache: PrefixCache, packed: Packed) -> Tensor:
        """Features of the last position of each item that is packed, ``[item, feature]``, as of :meth:`features`."""
        x = self.embed(packed.ids)
        past = self._beginnings(cache, packed.cached, packed.mask.shape[1], x)
        states = self.features(x, packed.sees, True, past, packed.places)
        return states[packed.row.to(states.device), packed.end.to(states.device)]

    @torch.no_grad()
    def takes_packed(self, positions: int, padded: bool = False) -> bool:
        """Whether :meth:`features_packed` gives what the whole gives, measured on a probe.

        Not asked of an LM whose features are logits, which would be computed at all positions.
        """
        attention = getattr(self.model.config, "_attn_implementation", None)
        if positions < 2 or not self.is_linear or not self._takes_positions or attention not in ("eager", "sdpa"):
            return False
        ids, mask = self._probe(positions, padded)
        cached = torch.tensor([1, 0]).repeat_interleave(3)
        begin = torch.tensor([1, positions // 2, positions - 1]).repeat(2)
        whole_mask = None if mask is None else mask[cached]
        packed = Packed.of(ids[cached], begin, cached, torch.full_like(begin, 2 * positions), whole_mask)
        try:
            found = self.features_packed(self.prefix_cache(ids, mask), packed)
        except (AttributeError, IndexError, TypeError, ValueError):  # no such mask
            return False
        return self._agrees(found, self.features(self.embed(ids), mask)[cached[packed.items]])

    def _probe(self, positions: int, padded: bool) -> tuple[Tensor, Tensor | None]:
        """Two token sequences and their mask; with padding the second begins with a position of it."""
        ids = (torch.arange(2 * positions) * 7919 % self.vocab_size).view(2, positions)
        return ids, (torch.arange(positions) >= torch.tensor([[0], [1]])) if padded else None

    def _agrees(self, found: Tensor, expected: Tensor) -> bool:
        """Whether features differ by roundings at most."""
        tolerance = max(1e-4, 16 * torch.finfo(self.dtype).eps)
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())

    @torch.no_grad()
    def caches_prefixes(self, positions: int, padded: bool = False) -> bool:
        """Whether tokens that continue cached beginnings give what the whole gives, measured on a probe.

        A window that is shorter than the whole, of so many positions, may matter, and padding on its left.
        """
        if positions < 2:
            return False
        ids, mask = self._probe(positions, padded)
        whole = self.features(self.embed(ids), mask)
        sequences = torch.tensor([1, 0])
        try:
            cache = self.prefix_cache(ids, mask)
            cuts = {1, positions // 2, positions - 1}
            swapped = None if mask is None else mask[sequences]
            parts = [
                self.features_after(cache, sequences, cut, self.embed(ids[sequences, cut:]), swapped) for cut in cuts
            ]
        except (AttributeError, IndexError, TypeError, ValueError):  # no cache, or one of another kind
            return False
        return all(self._agrees(part, whole[sequences]) for part in parts)

    def head(self) -> tuple[Tensor, Tensor | None]:
        """Weight ``[vocab, feature]`` and bias ``[vocab]`` of the head, the logits' scale included.

        In float32 or float64; a copy is kept when the LM's own are in half precision or scaled.
        """
        head = self.model.get_output_embeddings()
        weight, bias = head.weight, head.bias
        dtype = torch.promote_types(weight.dtype, torch.float32)
        if weight.dtype == dtype and self._logit_scale == 1.0:
            return weight, bias
        if self._head_copy is None or self._head_copy[0].device != weight.device:
            scaled = None if bias is None else bias.to(dtype) * self._logit_scale
            self._head_copy = (weight.to(dtype) * self._logit_scale, scaled)
        return self._head_copy

    def logits(self, features: Tensor) -> Tensor:
        """Next-token logits from features: ``[item, feature]`` to ``[item, vocab]``, float32 or float64."""
        if not self.is_linear:
            return features
        weight, bias = self.head()
        # what only ranks may be less precise, unless each row must be the same whatever the others are
        with rough_products(self.rounding is not None and self._positions_at_once is None):
            return F.linear(pad_rows(features.to(weight.device)), weight, bias)[: len(features)]

    def next_token_logits(self, inputs_embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """Next-token logits, ``[item, vocab]``, after input embeddings and their mask as in :meth:`features`."""
        return self.logits(self.features(inputs_embeds, mask))

    def moments(self, log_p: Tensor) -> tuple[Tensor, Tensor]:
        """What targets need in the search loop: moments W^T p, ``[item, feature]``, and offsets <p, b>, ``[item]``.

        From log-probabilities ``[item, vocab]``; float32 (float64 for a float64 LM).
        """
        p = log_p.to(self.device).exp()
        if not self.is_linear:
            return p, torch.zeros_like(p[:, 0])
        weight, bias = self.head()
        p = pad_rows(p.to(weight))
        offset = torch.zeros_like(p[:, 0]) if bias is None else p @ bias
        return (p @ weight)[: len(log_p)], offset[: len(log_p)]

    def train(self, mode: bool = True) -> "FrozenLM":
        """Stays in eval mode."""
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Empty: the LM is named and fingerprinted in a checkpoint, not stored."""
        return kwargs.get("destination", {})

    def _apply(self, fn: Any, recurse: bool = True) -> "FrozenLM":
        # weights that accelerate has spread over devices stay where they are
        return self if self.dispatched else super()._apply(fn, recurse)
