"""DeepSpeed (ZeRO 0-3) behind the engine interface. Imported only where it is used.

How it is held to the bits of plain torch (see training/engine.py for what is promised):
- a torch optimizer is passed in, never DeepSpeed's own, whose C++ kernels would be compiled at run time;
- ZeRO 1-3 flatten each parameter GROUP into one vector. One group a parameter keeps parameters apart, so that one
  without a gradient can be left out of a step, and a checkpoint can hold each one's state by itself;
- state is read from the optimizer's fp32 masters; DeepSpeed's own save_checkpoint would pickle, and not atomically.
"""

import copy
import importlib
import inspect
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import config
from mmcontrast.errors import ConfigError, TrainingError
from mmcontrast.training.distributed import World
from mmcontrast.training.engine import Engine, clip_gradients, cpu_copy, finite_norm, set_learning_rate


class DeepSpeedEngine(Engine):
    """DeepSpeed with a torch optimizer."""

    def __init__(self, module: nn.Module, stage: config.Stage, steps: int, engine: config.Engine, world: World) -> None:
        self._deepspeed = import_deepspeed(world.device)
        self._zero = engine.zero_stage
        scalars = [name for name, p in module.named_parameters() if p.ndim == 0]
        if self._zero == 3 and scalars:
            raise ConfigError(
                f"engine.zero_stage: 3 cannot take parameters without axes ({', '.join(scalars)}); use at most stage 2"
            )
        super().__init__(module, stage, steps, engine, world, apart=bool(self._zero))
        # ZeRO 3 takes the module's weights apart for good; this copy is filled where they are needed whole
        self._replica = copy.deepcopy(module) if self._zero == 3 else None
        self._touched: set[int] = set()
        self._hooks = [p.register_hook(lambda _, i=i: self._touched.add(i)) for i, p in enumerate(self._params)]
        with no_broadcast():
            self._wrapped, *_ = self._deepspeed.initialize(
                model=self._wrapped,
                optimizer=self._optimizer,
                config=deepspeed_config(engine.zero_stage, stage.gradient_clipping),
            )
        if self._zero == 0 and world.size == 1:
            # or every gradient is copied into one vector, exchanged with nobody, and copied back
            self._wrapped.enable_backward_allreduce = False
        if self._zero == 3:
            self._masters = list(self._wrapped.optimizer.fp32_partitioned_groups_flat)
        elif self._zero:
            self._masters = [group["params"][0] for group in self._optimizer.param_groups]
        self._index = {id(master): i for i, master in enumerate(self._masters)}
        self._hooks.append(self._optimizer.register_step_pre_hook(self._leave_out_untouched))

    def step(self, loss: Tensor) -> float:
        self._touched.clear()
        self._wrapped.backward(loss)
        self._share_touched()
        norm = self._forget_untouched_gradients()
        set_learning_rate(self._optimizer, self._factor(self._steps))
        self._wrapped.step()
        self._steps += 1
        if self._zero and self._wrapped.optimizer.overflow:
            norm = float("inf")  # DeepSpeed left the step out without a word
        elif self._zero and self._clip:
            norm = float(self._wrapped.get_global_grad_norm())
        return norm if math.isnan(norm) else finite_norm(norm)

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        if self._replica is None:
            yield self.module
            return
        with self._deepspeed.zero.GatheredParameters(list(self.module.parameters())), torch.no_grad():
            weights = ([*module.parameters(), *module.buffers()] for module in (self._replica, self.module))
            for ours, theirs in zip(*weights, strict=True):
                ours.copy_(theirs)
        yield self._replica.train(self.module.training)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if self._zero:
            state["masters"] = [m.detach().cpu().clone() for m in self._masters]
        if self._zero == 3:
            # the masters hold every weight that can change
            state["module"] = cpu_copy(dict(self.module.named_buffers()))
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for master, saved in zip(self._masters, state.get("masters", ()), strict=bool(self._zero)):
            master.copy_(saved)
        if self._zero < 3:
            super().load_state_dict(state)
            return
        for name, buffer in self.module.named_buffers():
            buffer.copy_(state["module"][name])
        # the weights of the forward pass are made those of the masters
        zero = self._wrapped.optimizer
        zero.checkpoint_event_prologue()
        for i, master in enumerate(self._masters):
            zero.fp16_partitioned_groups_flat[i].copy_(master)
        zero.checkpoint_event_epilogue()
        self.restore_steps(state)

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._wrapped.destroy()
        if self._zero == 3:
            forget_modules()

    def _share_touched(self) -> None:
        """A parameter counts as touched where any rank has a gradient for it."""
        if self.world.size == 1:
            return
        flags = torch.tensor([float(i in self._touched) for i in range(len(self._params))], device=self.world.device)
        torch.distributed.all_reduce(flags)
        counts = flags.tolist()
        if self._zero and any(0 < n < self.world.size for n in counts):
            raise TrainingError(
                "some ranks have a gradient for a parameter and others have none, which ZeRO 1-3 add up wrongly; "
                "use engine.zero_stage: 0 or backend: torch, or a loss that is computed alike on every rank"
            )
        self._touched = {i for i, n in enumerate(counts) if n}

    def _forget_untouched_gradients(self) -> float:
        """Gradients of the untouched are no part of the norm; at stage 0 the norm is clipped here, and returned."""
        untouched = [i for i in range(len(self._params)) if i not in self._touched]
        if self._zero == 0:
            for i in untouched:
                self._params[i].grad = None
            return clip_gradients(self._params, self._clip)
        if self._zero == 3:
            # what lies there is the gradient of the last step that had one
            for i in untouched:
                for part in self._wrapped.optimizer.averaged_gradients[i]:
                    part.zero_()
        return float("nan")

    def _leave_out_untouched(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Before each optimizer step: the zeros that ZeRO put for missing gradients are taken out again."""
        for group in optimizer.param_groups:
            for master in group["params"]:
                if self._index[id(master)] not in self._touched:
                    master.grad = None


def deepspeed_config(zero_stage: int, clip: float) -> dict[str, Any]:
    """DeepSpeed's own configuration. Batches are counted in steps here, hence the sizes of 1."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # written even where it is off: left out, it is 1.0
        "gradient_clipping": clip if zero_stage else 0.0,
        "zero_optimization": {"stage": zero_stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "timers": {"throughput": {"enabled": False}},
    }


def import_deepspeed(device: torch.device) -> ModuleType:
    """DeepSpeed, told which device it is on and kept from building its C++ communication op."""
    os.environ["DS_ACCELERATOR"] = device.type
    os.environ.setdefault("LOCAL_RANK", "0")  # a launcher sets it; DeepSpeed insists on it for a single process too
    # this release of DeepSpeed calls collectives by names that this release of torch deprecates, at every step
    warnings.filterwarnings("ignore", "`torch.distributed.*is deprecated", FutureWarning)
    deepspeed = importlib.import_module("deepspeed")
    accelerator = importlib.import_module("deepspeed.accelerator").get_accelerator()
    if accelerator.device_name() != device.type:
        raise ConfigError(
            f"engine.device: DeepSpeed was started for {accelerator.device_name()} in this process and cannot be "
            f"used for {device.type}; start a new process"
        )
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def forget_modules() -> None:
    """ZeRO 3 keeps every module it ever ran, in a global list and in the cache of a method, within its wrapper."""
    importlib.import_module("deepspeed.runtime.zero.parameter_offload").FWD_MODULE_STACK.clear()
    owner = importlib.import_module("deepspeed.runtime.zero.partitioned_param_coordinator")
    wrapped = owner.PartitionedParameterCoordinator._PartitionedParameterCoordinator__params_to_release
    inspect.getclosurevars(wrapped).nonlocals["func"].cache_clear()


@contextmanager
def no_broadcast() -> Iterator[None]:
    """Keep DeepSpeed from broadcasting weights again: it fails at a parameter without axes, e.g. a temperature."""
    owner = importlib.import_module("deepspeed.runtime.engine").DeepSpeedEngine
    original = owner._broadcast_model
    owner._broadcast_model = lambda self: None
    try:
        yield
    finally:
        owner._broadcast_model = original
