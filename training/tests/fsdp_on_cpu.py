"""The program `sorted_tuning` on sharded CPU processes: a launch on GPUs, apart from the device.

accelerate shards on GPUs alone; this file changes only that decision. STOP_AFTER, a number of steps,
ends the run there, as a kill would.
"""

import os

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from sorted_tuning.cli import main
from sorted_tuning.tuning.sharding import BF16
from sorted_tuning.tuning.tune import Tuner

_accelerator_state, _one_step = AcceleratorState.__init__, Tuner._one_step


def accelerator_state(self, *arguments, fsdp_plugin=None, **settings):
    new = not AcceleratorState._shared_state
    _accelerator_state(self, *arguments, fsdp_plugin=fsdp_plugin, **settings)
    if new:
        assert self.distributed_type == DistributedType.MULTI_CPU
        assert fsdp_plugin.activation_checkpointing
        if self.mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self.mixed_precision)
        self.fsdp_plugin = fsdp_plugin
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def one_step(self):
    assert type(self.objective).__name__ == "FSDPSortedObjective"
    if self.accelerator.mixed_precision == "bf16":
        assert self.accelerator.state.fsdp_plugin.mixed_precision_policy == BF16
    if self.step == int(os.environ.get("STOP_AFTER", "-1")):
        os._exit(9)
    _one_step(self)


if __name__ == "__main__":
    AcceleratorState.__init__ = accelerator_state
    Tuner._one_step = one_step
    main()
