"""The same numbers again: seeds, threads, deterministic kernels, and a statement of what ran."""

import torch
import transformers

from audit_service.domain.trace import Control, Measured
from workers.engine.attention import NAME
from workers.engine.subject import Subject


def make_deterministic(*, threads: int | None = None, seed: int = 0) -> None:
    """Fix what decides the bytes of a result on one device: seed, threads, kernels, no reduced-precision matmul.

    For CUDA, CUBLAS_WORKSPACE_CONFIG must be set before the process starts its first matmul; torch raises if it is not.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if threads is not None:
        torch.set_num_threads(threads)


def device_name(subject: Subject) -> str:
    """What the model runs on: the name of the accelerator, or "cpu"."""
    return torch.cuda.get_device_name(subject.device) if subject.device.type == "cuda" else "cpu"


def dtype_name(subject: Subject) -> str:
    """The number format, such as "float32", and that of packed weights."""
    computed = str(subject.dtype).removeprefix("torch.")
    return computed if subject.packing is None else f"{computed}, weights in {subject.packing}"


def measured(subject: Subject, controls: tuple[Control, ...]) -> Measured:
    """What another machine needs to repeat the cells."""
    return Measured(
        device=device_name(subject),
        dtype=dtype_name(subject),
        torch=torch.__version__,
        transformers=transformers.__version__,
        threads=torch.get_num_threads(),
        attention=NAME,
        controls=controls,
    )
