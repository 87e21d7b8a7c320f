"""What is traced: a loaded model, its tokenizer, and where its parts are."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workers.engine.anatomy import Anatomy
from workers.engine.quantization import packing
from workers.engine.shelves import Memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Subject:
    """A loaded model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    memory: Memory = field(default_factory=Memory.of_this_machine)
    """For each recording of a prompt."""

    @property
    def device(self) -> torch.device:
        """Where prompts enter the model; its layers may lie elsewhere."""
        hook = getattr(self.embeddings, "_hf_hook", None)
        place = getattr(hook, "execution_device", None)
        return self.model.device if place is None else torch.device(place)

    @property
    def embeddings(self) -> nn.Embedding:
        """The tokens' own; every proven family looks them up in one table."""
        return cast("nn.Embedding", self.model.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    @property
    def packing(self) -> str | None:
        """How the weights are packed in fewer bits; None where they are not."""
        return packing(self.model.config)
