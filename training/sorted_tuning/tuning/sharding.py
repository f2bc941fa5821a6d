"""The precision of a sharded run. Knows accelerate and torch's FSDP2. Must not know models."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch.distributed.fsdp import MixedPrecisionPolicy

BF16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
"""Layers are gathered and multiplied in bf16; gradients are summed over the processes in fp32, losses stay fp32."""


def set_precision(accelerator: Accelerator) -> None:
    """Let a bf16 run under FSDP2 use BF16, before `prepare`; any other run stays as it is.

    accelerate's own choice for bf16, for which its configuration file has no option, sums gradients in bf16 and rounds
    the losses that the objective returns to it.
    """
    if accelerator.is_fsdp2 and accelerator.mixed_precision == "bf16":
        accelerator.state.fsdp_plugin.mixed_precision_policy = BF16
