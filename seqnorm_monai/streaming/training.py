"""The gradient of one image larger than memory, exactly, in two passes over its tokens for each layer.

The forward pass (:mod:`seqnorm_monai.streaming.forward`) leaves every layer's input X_l in a store. The backward pass
goes from the last layer to the first with the gradient G of the loss for the tokens in one more store. With H =
norm1(X), statistics (m, S) of H, and the map (A, c) that follows from S::

    Y_n = block(x_n; m, A, c)          for each token by itself; recomputed chunk by chunk, so autograd gives,
                                       from G, dX directly and sums over chunks of dA, dc, dm and the weights' gradients
    dS, weights' gradients             from dA, dc, through the small function S -> (A, c)
    dH_n += (dS + dS^T)(h_n - m) / N + dm / N

The last line needs the sums over all chunks. It is added when the layer below, whose output is X, recomputes X for its
own gradients. So there is one pass for each layer. The last layer acts only on the class token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from seqnorm_monai.attention.functional import TokenStatistics, apply_affine_map
from seqnorm_monai.attention.layer_map import LayerMap, layer_map
from seqnorm_monai.attention.modules import SequenceNormAttention
from seqnorm_monai.images.slides.regions import opened
from seqnorm_monai.streaming.forward import CHUNK_TOKENS, Stream
from seqnorm_monai.streaming.tiles import Prepare
from seqnorm_monai.streaming.token_store import TokenStore, TokenStores
from seqnorm_monai.streaming.tokenwise import apply_block, branch_scales, check_network

Loss = Callable[[Tensor], Tensor]
Scales = list[tuple[Tensor, Tensor]]


class GradientSum:
    """Gradients of parameters, summed apart from ``grad``, which a run that breaks off leaves as it was."""

    def __init__(self) -> None:
        self._sums: dict[nn.Parameter, Tensor] = {}

    def backward(
        self,
        outputs: Sequence[Tensor],
        gradients: Sequence[Tensor],
        inputs: Sequence[Tensor],
        modules: Iterable[nn.Module],
    ) -> list[Tensor]:
        """Add the modules' share of a backward pass; return the inputs', 0 for one that has none."""
        weights = [p for module in modules for p in module.parameters() if p.requires_grad]
        pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
        if not pairs:
            return [torch.zeros_like(x) for x in inputs]
        wanted = [x for x in inputs if x.requires_grad]
        roots, above = zip(*pairs)
        found = torch.autograd.grad(roots, [*wanted, *weights], above, allow_unused=True)
        for weight, gradient in zip(weights, found[len(wanted) :]):
            if gradient is not None:
                self._sums[weight] = self._sums[weight] + gradient if weight in self._sums else gradient
        of_inputs = dict(zip(map(id, wanted), found))
        return [torch.zeros_like(x) if of_inputs.get(id(x)) is None else of_inputs[id(x)] for x in inputs]

    def deliver(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the sums to ``grad``, as a backward pass does."""
        for weight in parameters:
            if weight in self._sums:
                weight.grad = self._sums[weight] if weight.grad is None else weight.grad + self._sums[weight]


def _leaves(mapped: LayerMap) -> LayerMap:
    return LayerMap(*(value.detach().requires_grad_() for value in mapped))


class StatisticsGradient:
    """What every token of a layer gets for its share in the mean and the covariance.

    ::

        dh_n = W (h_n - m) + b,   W = (dS + dS^T) / N,   b = dm / N

    Args:
        attention: of the layer.
        statistics: of its tokens.
        of_map: dm, dA, dc, summed over all tokens.
        sums: take the gradients of the attention's weights.
    """

    def __init__(
        self, attention: SequenceNormAttention, statistics: TokenStatistics, of_map: Sequence[Tensor], sums: GradientSum
    ) -> None:
        mean_gradient, weight_gradient, bias_gradient = of_map
        covariance = statistics.covariance.detach().requires_grad_()
        with torch.enable_grad():
            mapped, _ = layer_map(attention, TokenStatistics(statistics.count, statistics.mean, covariance))
        outputs, gradients = (mapped.weight, mapped.bias), (weight_gradient, bias_gradient)
        (gradient,) = sums.backward(outputs, gradients, [covariance], [attention])
        count = statistics.count.unsqueeze(1)
        self.mean = statistics.mean
        self.weight = (gradient + gradient.transpose(1, 2)) / count.unsqueeze(2)
        self.bias = mean_gradient / count

    def __call__(self, tokens: Tensor) -> Tensor:
        return apply_affine_map(tokens.detach(), None, self.mean, self.weight, self.bias)


class Backward:
    """The backward pass of one image through one network.

    Args:
        stream: the image and the network.
        scales: of the blocks' branches, as the forward pass drew them.
        statistics: of every layer, as the forward pass left them.
    """

    def __init__(self, stream: Stream, scales: Scales, statistics: list[TokenStatistics]) -> None:
        self.stream = stream
        self.blocks = stream.network.blocks
        self.scales = scales
        self.statistics = statistics
        self.sums = GradientSum()

    def leaves(self, layer: int) -> LayerMap:
        with torch.no_grad():
            return _leaves(layer_map(self.blocks[layer].attention, self.statistics[layer])[0])

    def share(self, layer: int, of_map: Sequence[Tensor]) -> StatisticsGradient:
        return StatisticsGradient(self.blocks[layer].attention, self.statistics[layer], of_map, self.sums)

    def read_out(self, cls_token: Tensor, loss: Loss, target: TokenStore) -> tuple[Tensor, StatisticsGradient]:
        """The loss, from the input of the last layer; the class token's gradient goes into the store."""
        network, last = self.stream.network, len(self.blocks) - 1
        cls_token, mapped = cls_token.requires_grad_(), self.leaves(last)
        with torch.enable_grad():
            value = loss(self.stream.read_out(mapped, self.scales[last], cls_token))
        if value.numel() != 1:
            raise ValueError(f"the loss must be one number, got the shape {tuple(value.shape)}")
        modules = [self.blocks[last], network.norm, network.head]
        gradient, *of_map = self.sums.backward([value], [torch.ones_like(value)], [cls_token, *mapped], modules)
        target.write(0, gradient)
        return value.detach(), self.share(last, of_map)

    def layer(
        self, layer: int, source: TokenStore, target: TokenStore, above: StatisticsGradient
    ) -> StatisticsGradient:
        """Gradients for a layer's output, in ``target``, to those for its input; ``above`` is of the next layer."""
        block, norm = self.blocks[layer], self.blocks[layer + 1].norm1
        mapped = self.leaves(layer)
        of_map = [torch.zeros_like(value) for value in mapped]
        for row, tokens in self.stream.chunks(source):
            tokens = tokens.requires_grad_()
            with torch.enable_grad():
                output = apply_block(block, tokens, mapped, self.scales[layer])
                normed = norm(output)
            gradients = self._incoming(row, tokens, target), above(normed)
            found = self.sums.backward([output, normed], gradients, [tokens, *mapped], [block, norm])
            target.write(row, found[0])
            for total, gradient in zip(of_map, found[1:]):
                total += gradient
        return self.share(layer, of_map)

    def embedding(self, target: TokenStore, above: StatisticsGradient) -> None:
        """Gradients for the first layer's input to those of the class token, the patch embedding and the positions."""
        network, norm = self.stream.network, self.blocks[0].norm1
        modules = [network.patch_embedding, network.positions, norm]
        with torch.enable_grad():
            for row, tokens in self.stream.embedded():
                normed = norm(tokens)
                gradients = self._incoming(row, tokens, target), above(normed)
                # row 0 is the parameter itself
                weights = modules if row else [nn.ParameterList([network.cls_token]), norm]
                self.sums.backward([tokens, normed], gradients, [], weights)

    def _incoming(self, row: int, tokens: Tensor, target: TokenStore) -> Tensor:
        return target.read(row, row + tokens.shape[1]).to(tokens.device)


def _forward(stream: Stream, scales: Scales, stores: TokenStores) -> list[TokenStatistics]:
    """Every layer's input into its store, and the statistics of each."""
    last = len(stream.network.blocks) - 1
    statistics = [stream.embed(stores[0])]
    for layer in range(last):
        mapped, statistics[layer] = stream.map(layer, statistics[layer], stores[layer])
        statistics.append(stream.advance(layer, mapped, scales[layer], stores[layer], stores[layer + 1]))
    statistics[last] = stream.map(last, statistics[last], stores[last])[1]
    return statistics


@torch.no_grad()
def stream_backward(
    network: nn.Module,
    image: object,
    loss: Loss,
    *,
    chunk_tokens: int = CHUNK_TOKENS,
    prepare: Prepare | None = None,
    store: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Tensor:
    """``loss(network(image)).backward()`` for one image that would not fit, up to rounding; then step the optimiser.

    Gradients are added to ``grad``, all at once at the end. Memory or disk for the tokens: (1 + N) * C * 4 bytes
    (float32) for each layer and once more for the gradient. Drop path tosses the coins that the ordinary pass would
    toss for a batch of one image after the same seed.

    Args:
        network: with the attention ``seqnorm`` and no dropout; on a GPU too, while tokens wait in memory or on disk.
        image: as :func:`seqnorm_monai.streaming.forward.stream_forward` takes it; read twice.
        loss: of the logits (1, num_classes), one number, for example ``lambda z: F.cross_entropy(z, label)``.
        chunk_tokens: tokens that are computed at a time; results do not depend on it.
        prepare: as for :func:`~seqnorm_monai.streaming.forward.stream_forward`; gives the same each time.
        store: folder for the tokens, of which nothing remains; they stay in memory if None.
        progress: show a bar.

    Returns:
        The loss, detached.

    Raises:
        TypeError, ValueError: for a network or an image that cannot be streamed, or a loss of several numbers.
    """
    check_network(network)
    like, layers = network.cls_token, len(network.blocks)
    shape = {"hidden_size": like.shape[2], "dtype": like.dtype}
    folder = None if store is None else Path(store)
    with opened(image) as region, tqdm(unit="token", unit_scale=True, disable=not progress) as bar:
        stream = Stream(network, region, prepare, chunk_tokens, bar)
        bar.reset(2 * layers * stream.tokens)
        with (
            TokenStores(folder, tokens=stream.tokens, slots=layers, **shape) as inputs,
            TokenStores(folder, tokens=stream.tokens, slots=1, **shape) as gradients,
        ):
            scales = branch_scales(network, 1)
            backward = Backward(stream, scales, _forward(stream, scales, inputs))
            cls_token = inputs[layers - 1].read(0, 1).to(like.device)
            value, above = backward.read_out(cls_token, loss, gradients[0])
            for layer in reversed(range(layers - 1)):
                # a layer's output is computed again from its input, so the store above is not needed any more
                inputs.close(layer + 1)
                above = backward.layer(layer, inputs[layer], gradients[0], above)
            backward.embedding(gradients[0], above)
        backward.sums.deliver(network.parameters())
    return value
