"""Tensors of V2 requests and answers: JSON lists, or bytes behind the JSON, and arrays.

The binary form: every element little-endian, row by row; a BOOL is one byte, 0 or 1; an element
of BYTES is its length (4 bytes, little-endian) and as many bytes, here UTF-8 text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from sixways_server.errors import BadRequest
from sixways_server.protocols.arrays import from_flat
from sixways_server.protocols.v2_types import InferRequest, InputTensor, OutputTensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "str",
}
"""The protocol's names of types and numpy's."""
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def datatype(dtype: str) -> str:
    """The protocol's name of a type that numpy names `dtype`."""
    return _NAMES.get(dtype, dtype.upper())


def read(body: InferRequest, binary: memoryview) -> dict[str, NDArray[Any]]:
    """Every input by name, of the type that it says it has.

    Args:
        body: the request's JSON.
        binary: the bytes behind it.

    Raises:
        BadRequest: the data is not of that type and shape; `field` names the input.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(body.inputs):
        where = f"inputs[{index}]"
        if tensor.name in tensors:
            raise BadRequest(
                f"{where}.name: {tensor.name[:80]!r} is given twice", field=f"{where}.name"
            )
        if tensor.datatype not in DATATYPES:
            raise BadRequest(
                f"{where}.datatype: {tensor.datatype[:40]!r} is not accepted; accepted: "
                + ", ".join(DATATYPES),
                field=f"{where}.datatype",
            )
        size = tensor.parameters.binary_data_size if tensor.parameters else None
        if (size is None) == (tensor.data is None):
            raise BadRequest(
                f"{where}: needs either data or parameters.binary_data_size", field=where
            )
        if size is None:
            tensors[tensor.name] = _from_json(tensor, f"{where}.data")
            continue
        if size > len(binary):
            raise BadRequest(
                f"{where}.parameters.binary_data_size: {size}, but {len(binary)} bytes are left "
                "behind the JSON",
                field=where,
            )
        tensors[tensor.name] = _from_bytes(tensor, binary[:size], where)
        binary = binary[size:]
    if len(binary):
        raise BadRequest(
            f"inputs: {len(binary)} bytes behind the JSON belong to no input; each input's "
            "parameters.binary_data_size says how many are its own",
            field="inputs",
        )
    return tensors


def _from_json(tensor: InputTensor, field: str) -> NDArray[Any]:
    data = tensor.data or []
    axis = 0
    while data and isinstance(data[0], list):
        axis += 1
        if not all(isinstance(row, list) for row in data):
            raise BadRequest(f"{field}: rows and single values are mixed", field=field)
        lengths = {len(row) for row in data}
        if len(data) != math.prod(tensor.shape[:axis]) or [*lengths] != tensor.shape[axis:][:1]:
            raise BadRequest(
                f"{field}: {len(data)} rows of {min(lengths)} to {max(lengths)} values, but "
                f"shape is {tensor.shape}",
                field=field,
            )
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(tensor.shape):
        raise BadRequest(
            f"{field}: {len(data)} values, but shape {tensor.shape} holds "
            f"{math.prod(tensor.shape)}",
            field=field,
        )
    return from_flat(data, DATATYPES[tensor.datatype], tensor.shape, field)


def _from_bytes(tensor: InputTensor, data: memoryview, where: str) -> NDArray[Any]:
    count = math.prod(tensor.shape)
    if tensor.datatype == "BYTES":
        texts = _texts(data, count, where)
        return np.array(texts, dtype=object).reshape(tensor.shape)
    stored = np.dtype(DATATYPES[tensor.datatype]).newbyteorder("<")
    if len(data) != count * stored.itemsize:
        raise BadRequest(
            f"{where}.parameters.binary_data_size: {len(data)} bytes, but {tensor.datatype} of "
            f"shape {tensor.shape} has {count * stored.itemsize}",
            field=where,
        )
    if tensor.datatype == "BOOL" and (np.frombuffer(data, dtype=np.uint8) > 1).any():
        raise BadRequest(f"{where}: a BOOL is one byte, 0 or 1", field=where)
    # A copy: an engine may want to write, and the body's bytes cannot be written.
    return np.frombuffer(data, dtype=stored).astype(stored.newbyteorder("=")).reshape(tensor.shape)


def _texts(data: memoryview, count: int, where: str) -> list[str]:
    texts: list[str] = []
    at = 0
    while at < len(data) and len(texts) < count:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            break
        try:
            texts.append(str(data[at + 4 : end], "utf-8"))
        except UnicodeDecodeError as error:
            raise BadRequest(
                f"{where}: element {len(texts)} is not UTF-8 text ({error.reason} at byte "
                f"{error.start})",
                field=where,
            ) from None
        at = end
    if at != len(data) or len(texts) != count:
        raise BadRequest(
            f"{where}: {len(data)} bytes are not {count} elements of BYTES, each with its length "
            "in 4 bytes (little-endian) before it",
            field=where,
        )
    return texts


def write(
    head: Mapping[str, object], outputs: Sequence[tuple[str, NDArray[Any], bool]]
) -> tuple[bytes, int | None]:
    """The answer's body.

    Args:
        head: everything but `outputs`.
        outputs: name, array, and whether it stands behind the JSON.

    Returns:
        The body, and the length of its JSON where something stands behind it.
    """
    described: list[OutputTensor] = []
    behind: list[bytes] = []
    for name, array, binary in outputs:
        dtype = "str" if array.dtype.kind == "O" else array.dtype.name
        output: OutputTensor = {
            "name": name, "shape": list(array.shape), "datatype": datatype(dtype)
        }  # fmt: skip
        if binary:
            behind.append(_bytes(array))
            output["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            output["data"] = array.ravel().tolist()
        described.append(output)
    content = msgspec.json.encode({**head, "outputs": described})
    if not any(binary for _, _, binary in outputs):
        return content, None
    return b"".join([content, *behind]), len(content)


def _bytes(array: NDArray[Any]) -> bytes:
    if array.dtype.kind != "O":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    elements = [text.encode("utf-8", "surrogatepass") for text in array.ravel()]
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)
