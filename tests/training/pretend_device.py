"""A device that is not there: its tensors hold CPU tensors, and every operation is checked as a GPU would check it.

An operation on tensors of two devices fails, unless CUDA allows it (a 0-dim CPU tensor beside others in a pointwise
operation, CPU indices, lengths of packed sequences). Copies from the host, and whatever makes the host wait for the
device, are counted with the line that asked for it. Under autocast operations are cast as CUDA's autocast casts them.

What it cannot show: speed, kernels that a GPU does not have, and the numbers a GPU would give.

`install` registers the device with torch for the rest of the process, so tests use it in a process of its own.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
COPY, SYNC = "copy", "sync"

# they read a number of results from the device
WAITING = {
    "_linalg_check_errors", "_local_scalar_dense", "_unique", "_unique2", "bincount", "equal", "masked_select",
    "nonzero", "unique_consecutive", "unique_dim",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
# CPU tensors of any size may stand beside those of the device, or a 0-dim one as the value that is filled in
MIXING = {"_pack_padded_sequence", "_pad_packed_sequence", "copy_", "_to_copy"}
FILLING = {"fill", "fill_", "masked_fill", "masked_fill_", "where"}

# of torch.amp for CUDA; what is in none of the lists runs in the type of its inputs
IN_BF16 = (
    "addbmm addmm addmv addr baddbmm bmm conv1d conv2d conv3d linear matmul mm mv prelu scaled_dot_product_attention"
)
IN_FP32 = (
    "acos asin binary_cross_entropy_with_logits cdist cosh cosine_similarity cumprod cumsum dist exp expm1 group_norm "
    "kl_div l1_loss layer_norm log log10 log1p log2 log_softmax logsumexp mse_loss nll_loss norm pow prod reciprocal "
    "rsqrt sinh smooth_l1_loss softmax softplus sum tan"
)
IN_WIDEST = "addcdiv addcmul atan2 bilinear cat cross dot grid_sampler index_put scatter_add stack tensordot"


# what is registered with torch goes when these go
_REGISTERED: list[torch.library.Library] = []


class MixedDevicesError(RuntimeError):
    """Operands on two devices, where CUDA would fail."""


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Generator(torch.Generator):
    """Of the CPU; one for the device is known by its address, and kept so that no other gets that."""

    def __new__(cls, device: Any = "cpu") -> Self:
        made = super().__new__(cls, "cpu")
        if torch.device(device).type == NAME and PretendDevice.current is not None:
            PretendDevice.current.generators[made._cdata] = made
        return made


class DeviceTensor(Tensor):
    """A tensor on the device; `held` is where its numbers are."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> Self:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        _note(SYNC)
        return self.held.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"a tensor on {self.device} has no numpy array; copy it to the CPU first")

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
        _note(COPY)
        return DeviceTensor(torch.tensor(data, dtype=dtype or self.dtype))

    def __repr__(self) -> str:
        return f"DeviceTensor({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """While it is entered, tensors can be made on `device`.

    Attributes:
        counts: (COPY or SYNC, "file:line in function") -> how often so far.
    """

    current: PretendDevice | None = None

    def __init__(self) -> None:
        super().__init__()
        install()
        self.device = torch.device(NAME, 0)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.generators: dict[int, torch.Generator] = {}

    def __enter__(self) -> Self:
        PretendDevice.current = self
        self._patches = ExitStack()
        for name, made in (
            ("Generator", _Generator),
            ("tensor", _made(torch.tensor)),
            ("as_tensor", _made(torch.as_tensor)),
        ):
            self._patches.enter_context(patch.object(torch, name, made))
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._patches.close()
        PretendDevice.current = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def total(self, kind: str) -> int:
        """COPY or SYNC so far."""
        return sum(n for (of, _), n in self.counts.items() if of == kind)


def install() -> None:
    """Make torch know the device; once in a process, before anything was differentiated."""
    if hasattr(torch, NAME):
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    others, library = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    _REGISTERED.extend((others, library))
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    library.impl("_thnn_fused_gru_cell", _gru_cell, "AutogradPrivateUse1")
    for names, cast in ((IN_BF16, _to_bf16), (IN_FP32, _to_fp32), (IN_WIDEST, _to_widest)):
        for name in names.split():
            packet = getattr(torch.ops.aten, name)
            for overload in packet.overloads():
                if "out" not in overload:
                    full = f"{name}.{overload}".removesuffix(".default")
                    library.impl(full, _cast(getattr(packet, overload), cast), "AutocastPrivateUse1")


def _gru_cell(
    input_gates: Tensor, hidden_gates: Tensor, h: Tensor, input_bias: Tensor, hidden_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of a GRU, (b, 3 H) gates and (b, H) state; the CPU has no kernel by this name."""
    reset, update, new = (input_gates + input_bias).chunk(3, dim=1)
    of_reset, of_update, of_new = (hidden_gates + hidden_bias).chunk(3, dim=1)
    new = (new + (reset + of_reset).sigmoid() * of_new).tanh()
    return new + (update + of_update).sigmoid() * (h - new), input_gates.new_empty(0)


def _made(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and torch.as_tensor, which ask no dispatch mode, by way of the CPU."""

    def make(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if device is None or isinstance(data, DeviceTensor):
            return original(data, *args, **kwargs)
        return original(data, *args, **kwargs).to(device)

    return make


def _cast(func: Any, cast: Callable[[list[Any]], Callable[[Any], Any]]) -> Callable[..., Any]:
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        change = cast([x for x in tree_leaves((args, kwargs)) if _is_real(x)])
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return func(*tree_map(change, args), **tree_map(change, kwargs))

    return kernel


def _is_real(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64


def _to(dtype: torch.dtype) -> Callable[[Any], Any]:
    return lambda x: x.to(dtype) if _is_real(x) and x.dtype != dtype else x


def _to_bf16(operands: list[Tensor]) -> Callable[[Any], Any]:
    return _to(torch.bfloat16)


def _to_fp32(operands: list[Tensor]) -> Callable[[Any], Any]:
    return _to(torch.float32)


def _to_widest(operands: list[Tensor]) -> Callable[[Any], Any]:
    mixed = any(x.dtype == torch.float32 for x in operands) and any(x.dtype == torch.bfloat16 for x in operands)
    return _to(torch.float32) if mixed else lambda x: x


def _note(kind: str) -> None:
    counted = PretendDevice.current
    if counted is None:
        return
    frames = [f for f in traceback.extract_stack(limit=60) if "/torch/" not in f.filename and f.filename != __file__]
    # the engine of autograd has a stack of its own
    place = next((f for f in reversed(frames) if "/mmcontrast/" in f.filename), frames[-1] if frames else None)
    where = f"{place.filename.split('/mmcontrast/')[-1]}:{place.lineno} in {place.name}" if place else "backward"
    counted.counts[kind, where] += 1


def _held(x: Any) -> Any:
    return x.held if isinstance(x, DeviceTensor) else x


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on what the tensors hold, its result on the device where it belongs there."""
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, DeviceTensor)]
    wanted, to_device = kwargs.get("device"), bool(there)
    if wanted is not None:
        to_device = torch.device(wanted).type == NAME
        kwargs = kwargs | {"device": torch.device("cpu")}
    if name in ("copy_", "_to_copy"):
        source = args[1] if name == "copy_" else args[0]
        to_device = isinstance(args[0], DeviceTensor) if name == "copy_" or wanted is None else to_device
        if isinstance(source, DeviceTensor) != to_device and source.numel():
            _note(COPY if to_device else SYNC)
    elif there:
        _check(func, name, args, kwargs, [x for x in tensors if not isinstance(x, DeviceTensor)])
    _check_generator(func, args, kwargs, to_device)
    out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if name == "copy_":
        return args[0]
    if name in ("_pack_padded_sequence", "_pad_packed_sequence"):
        return DeviceTensor(out[0]), out[1]  # lengths are of the host
    if not to_device:
        return out
    # what was changed in place is given back itself
    known = {id(x.held): x for x in there}
    return tree_map(lambda x: known.get(id(x), DeviceTensor(x)) if isinstance(x, Tensor) else x, out)


def _check(func: Any, name: str, args: Any, kwargs: Any, on_cpu: list[Tensor]) -> None:
    """Count a wait, refuse a mixture; some operand is on the device."""
    if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        _note(SYNC)
    if name in INDEXING:
        indices = [x for x in args[1] if isinstance(x, Tensor)]
        if not isinstance(args[0], DeviceTensor):
            raise MixedDevicesError(f"{func}: a CPU tensor indexed by indices on the device")
        filled = "put" in name and args[2].numel() == 1  # then it is a masked fill
        for index in indices:
            if not isinstance(index, DeviceTensor):
                _note(COPY)
            if index.dtype in (torch.bool, torch.uint8) and not filled:
                _note(SYNC)
        on_cpu = [x for x in on_cpu if all(x is not index for index in indices)]
    elif name in MIXING:
        return
    scalars_pass = torch.Tag.pointwise in func.tags or name in FILLING or name in INDEXING
    changed = isinstance(args[0], Tensor) and not isinstance(args[0], DeviceTensor) and func._schema.is_mutable
    bad = [tuple(x.shape) for x in on_cpu if x.ndim or not scalars_pass or changed]
    if bad:
        raise MixedDevicesError(f"{func}: CPU tensors of shapes {bad} among tensors on the device")


def _check_generator(func: Any, args: Any, kwargs: Any, to_device: bool) -> None:
    generators = [x for x in (*args, *kwargs.values()) if isinstance(x, torch._C.Generator)]
    there = PretendDevice.current.generators if PretendDevice.current else {}
    if any((g._cdata in there) != to_device for g in generators):
        raise MixedDevicesError(f"{func}: a generator of one device, numbers on another")
