"""What is measured: one attention layer or one whole network, in one form, at one size.

A case is a frozen record of plain values, so that it can be sent to another process. It builds the step to run
(:meth:`Case.build`), and knows what :mod:`seqnorm_monai.benchmarking.complexity` says of its cost.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqnorm_monai.benchmarking import complexity
from seqnorm_monai.benchmarking.forms import create_form, replace_attention, run_as_written
from seqnorm_monai.benchmarking.network_complexity import (
    NetworkSize,
    network_backward_multiply_adds,
    network_kept_bytes,
    network_multiply_adds,
    network_parameters,
    network_peak_bytes,
)
from seqnorm_monai.benchmarking.peers import PEERS
from seqnorm_monai.networks.vit import VARIANTS, create_network

MODES = ("inference", "training")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# one grey image, as a radiograph, and a common number of findings
CHANNELS, CLASSES = 1, 14
PLAIN = "-plain"

Step = Callable[[], None]


def _check_name(name: str, value: str, known: object) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What layers and networks share.

    form: of attention, and for a network with PLAIN at its end: in a plain ViT (:func:`run_as_written`). mode:
    ``inference`` (forward, no gradients) or ``training``. batch: images. device: ``cpu`` or ``cuda``. dtype:
    ``float32``, or ``bfloat16`` under autocast. compiled: through ``torch.compile``.
    """

    form: str
    mode: str
    batch: int
    device: str = "cpu"
    dtype: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        _check_name("form", self.attention_form, complexity.FORMS)
        _check_name("mode", self.mode, MODES)
        _check_name("dtype", self.dtype, DTYPES)
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    @property
    def is_plain(self) -> bool:
        return self.form.endswith(PLAIN)

    @property
    def attention_form(self) -> str:
        return self.form.removesuffix(PLAIN)

    @property
    def counted_form(self) -> str:
        """The form whose cost this case has: a compiled graph of ``seqnorm`` holds the projected path."""
        return "seqnorm-projected" if self.compiled and self.form == "seqnorm" else self.attention_form

    @property
    def has_closed_memory(self) -> bool:
        """Whether the closed forms of the memory hold: they are for eager mode in float32 and our blocks."""
        return not self.compiled and self.dtype == "float32" and not self.is_plain

    def precision(self) -> AbstractContextManager[object]:
        """Autocast, on for any type but float32."""
        return torch.autocast(self.device, dtype=DTYPES[self.dtype], enabled=self.dtype != "float32")

    def prepare(self, module: nn.Module) -> nn.Module:
        """A module on its device, in its mode, compiled if asked for."""
        module = module.to(self.device).train(self.mode == "training")
        # one graph for each size, as the eager step is of one size
        return torch.compile(module, dynamic=False) if self.compiled else module

    def build(self) -> Step:
        """Weights and input, made anew from a fixed seed, and the function that does one step with them."""
        raise NotImplementedError

    def small(self) -> Case:
        """The same step at a size that costs nothing, to have code loaded and libraries started."""
        raise NotImplementedError

    def multiply_adds(self) -> int:
        """Of one step, for all images; in training of both passes."""
        raise NotImplementedError

    def kept_bytes(self) -> int:
        """Kept for the backward pass, parameters not counted."""
        raise NotImplementedError

    def peak_bytes(self) -> int:
        """Held at most without gradients, beside input and parameters."""
        raise NotImplementedError

    def parameters(self) -> int:
        """Learnt numbers."""
        raise NotImplementedError

    def needed_bytes(self) -> int:
        """Memory without which a step cannot end; in training a weight, its gradient and two moments of AdamW."""
        if self.mode == "inference":
            return self.peak_bytes() + 4 * self.parameters()
        return self.kept_bytes() + 16 * self.parameters()

    def to_json(self) -> str:
        """For :func:`case_from_json`."""
        return json.dumps({"subject": type(self).__name__, **asdict(self)})


@dataclass(frozen=True, kw_only=True)
class LayerCase(Case):
    """One attention layer: its forward pass, or its forward and backward pass with the tokens' gradient."""

    tokens: int
    hidden: int
    heads: int

    def build(self) -> Step:
        torch.manual_seed(0)
        module = self.prepare(create_form(self.form, self.hidden, self.heads))
        x = torch.randn(self.batch, self.tokens, self.hidden, device=self.device)
        if self.mode == "inference":
            return lambda: self._forward(module, x)
        x.requires_grad_()
        weight = torch.randn(x.shape, device=self.device, dtype=DTYPES[self.dtype])
        return lambda: self._forward_and_backward(module, x, weight)

    def _forward(self, module: nn.Module, x: Tensor) -> None:
        with torch.inference_mode(), self.precision():
            module(x)

    def _forward_and_backward(self, module: nn.Module, x: Tensor, weight: Tensor) -> None:
        with self.precision():
            y = module(x)
        y.backward(weight)
        module.zero_grad(set_to_none=True)
        x.grad = None

    def small(self) -> LayerCase:
        return replace(self, tokens=17, batch=1)

    @property
    def _sizes(self) -> dict[str, int]:
        return {"tokens": self.tokens, "hidden": self.hidden, "heads": self.heads}

    def multiply_adds(self) -> int:
        count = complexity.attention_multiply_adds(self.counted_form, **self._sizes)
        if self.mode == "training":
            count += complexity.attention_backward_multiply_adds(self.counted_form, **self._sizes)
        return self.batch * count

    def kept_bytes(self) -> int:
        return complexity.attention_kept_bytes(self.counted_form, **self._sizes, batch=self.batch)

    def peak_bytes(self) -> int:
        return complexity.attention_peak_bytes(
            self.counted_form, **self._sizes, batch=self.batch, in_chunks=self.device == "cpu"
        )

    def parameters(self) -> int:
        return complexity.attention_parameters(self.form, hidden=self.hidden, heads=self.heads)


@dataclass(frozen=True, kw_only=True)
class NetworkCase(Case):
    """A ViT of a named size: its forward pass, or one step of training (forward, loss, backward, AdamW).

    variant: of :data:`seqnorm_monai.networks.vit.VARIANTS`. image_size: pixels along both sides of a square image.
    """

    variant: str
    image_size: int
    patch_size: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("variant", self.variant, VARIANTS)

    def network(self) -> nn.Module:
        """The network; peers take the place of softmax attention."""
        form = self.attention_form
        kind, _, path = form.partition("-")
        model = create_network(
            self.variant,
            in_channels=CHANNELS,
            img_size=self.image_size,
            patch_size=self.patch_size,
            num_classes=CLASSES,
            attention="softmax" if form in PEERS else kind,
            attention_path=path or "auto",
        )
        if form in PEERS:
            replace_attention(model, form)
        return run_as_written(model) if self.is_plain else model

    def build(self) -> Step:
        torch.manual_seed(0)
        model = self.prepare(self.network())
        image = torch.randn(self.batch, CHANNELS, self.image_size, self.image_size, device=self.device)
        if self.mode == "inference":
            return lambda: self._predict(model, image)
        labels = torch.randint(0, 2, (self.batch, CLASSES), device=self.device).float()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        return lambda: self._train(model, optimizer, image, labels)

    def _predict(self, model: nn.Module, image: Tensor) -> None:
        with torch.inference_mode(), self.precision():
            model(image)

    def _train(self, model: nn.Module, optimizer: torch.optim.Optimizer, image: Tensor, labels: Tensor) -> None:
        with self.precision():
            loss = F.binary_cross_entropy_with_logits(model(image).float(), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def small(self) -> NetworkCase:
        return replace(self, image_size=2 * self.patch_size, batch=1)

    @property
    def size(self) -> NetworkSize:
        variant = VARIANTS[self.variant]
        return NetworkSize(
            patches=(self.image_size // self.patch_size) ** 2,
            patch_numbers=CHANNELS * self.patch_size**2,
            hidden=variant.hidden_size,
            mlp=variant.mlp_dim,
            layers=variant.num_layers,
            heads=variant.num_heads,
            classes=CLASSES,
        )

    def multiply_adds(self) -> int:
        count, size = network_multiply_adds(self.counted_form, self.size), self.size
        # the last layer's MLP for the other tokens
        rest = 2 * size.patches * size.hidden * size.mlp if self.is_plain else 0
        if self.mode == "training":
            count += network_backward_multiply_adds(self.counted_form, size) + 2 * rest
        return self.batch * (count + rest)

    def kept_bytes(self) -> int:
        return network_kept_bytes(self.counted_form, self.size, batch=self.batch)

    def peak_bytes(self) -> int:
        return network_peak_bytes(self.counted_form, self.size, batch=self.batch, in_chunks=self.device == "cpu")

    def parameters(self) -> int:
        return network_parameters(self.counted_form, self.size)


def case_from_json(text: str) -> Case:
    """The case that :meth:`Case.to_json` wrote."""
    values = json.loads(text)
    subject = {"LayerCase": LayerCase, "NetworkCase": NetworkCase}[values.pop("subject")]
    return subject(**values)
