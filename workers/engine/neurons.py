"""The hidden activations of MLPs: what stands in front of the projection back into the residual stream."""

from torch import nn

from audit_service.errors import InvalidTrace
from workers.engine.anatomy import Block

_READERS = (
    "mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2", "mlp.Wo", "mlp.fc_out", "ffn.down_proj",
    "ffn.lin2", "ffn.2", "output.dense", "feed_forward.down_proj", "feed_forward.w2", "shared_mlp.output_linear",
)  # fmt: skip
"""Modules whose input is the hidden activation, by family; mixtures of experts have none that all tokens share."""


def neurons_reader(block: Block) -> nn.Module | None:
    """The module whose input is this layer's [row, neuron] activation; None for a mixture of experts."""
    modules = dict(block.layer.named_modules())
    return next((modules[name] for name in _READERS if name in modules), None)


def require_neurons(block: Block, layer: int) -> None:
    """Raise InvalidTrace if the layer's MLP has no neurons of its own."""
    if neurons_reader(block) is None:
        raise InvalidTrace(
            f"neurons at layer {layer}: this MLP is a mixture of experts, whose neurons differ from token to token",
            remedy="use mlp_out",
        )
