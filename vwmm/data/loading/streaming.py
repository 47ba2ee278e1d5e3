"""Copies images into batch buffers without filling the CPU cache.

An image is read once and its batch is larger than a cache: an ordinary copy would first load the buffer's old lines,
and drive out what the computing threads are using. Measured: 2,250 instead of 1,620 to 2,100 cases/s of 4.3 MB.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vwmm.data.transforms.jit import compiled

_LINE = 64  # bytes of a cache line, and of the widest store
# Smaller images fit into the caches, and are better left there.
_MIN_BYTES = 2**18


def stream_copy(target: np.ndarray, source: np.ndarray) -> None:
    """Copies a C-contiguous array into another one of the same shape and dtype. Other threads see all of it."""
    to, of = target.reshape(-1).view(np.uint8), source.reshape(-1).view(np.uint8)
    if to.size < _MIN_BYTES or to.size % _LINE or to.ctypes.data % _LINE:
        np.copyto(to, of)
    else:
        _stream(to, of)


@intrinsic
def _store_line(_: Any, to: Any, place: Any, of: Any) -> Any:
    """to[place : place + 64] = of[place : place + 64], by stores that pass the caches by (LLVM's `nontemporal`)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        line = ir.VectorType(ir.IntType(8), _LINE).as_pointer()
        pointers = [
            builder.bitcast(builder.gep(context.make_array(kind)(context, builder, array).data, [arguments[1]]), line)
            for kind, array in ((signature.args[0], arguments[0]), (signature.args[2], arguments[2]))
        ]
        store = builder.store(builder.load(pointers[1], align=1), pointers[0], align=_LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
        return context.get_dummy_value()

    return types.void(to, types.intp, of), generate


@intrinsic
def _fence(_: Any) -> Any:
    """Nobody sees later writes before these stores."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@compiled()
def _stream(to, of):  # type: ignore[no-untyped-def]
    for place in range(0, to.size, _LINE):
        _store_line(to, place, of)  # type: ignore[call-arg]  # numba gives the first argument
    _fence()  # type: ignore[call-arg]
