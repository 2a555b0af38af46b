"""The protocol's message classes, without importing the rest of the SDK.

`import pulumi` takes three times as long as all that the host needs, and the host starts with
nearly every `pulumi` command. The generated modules import each other relatively, so empty
parent packages are enough. Programs run in their own process with the real SDK.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2
else:

    def _bare_parents() -> None:
        spec = importlib.util.find_spec("pulumi")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(
                f"the Pulumi SDK is not installed in {sys.prefix}; run `make install`"
            )
        folder = Path(next(iter(spec.submodule_search_locations)))
        for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
            module = types.ModuleType(name)
            module.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
            sys.modules[name] = module

    _bare_parents()
    language_pb2 = importlib.import_module("pulumi.runtime.proto.language_pb2")
    language_pb2_grpc = importlib.import_module("pulumi.runtime.proto.language_pb2_grpc")
    plugin_pb2 = importlib.import_module("pulumi.runtime.proto.plugin_pb2")

__all__ = ["language_pb2", "language_pb2_grpc", "plugin_pb2"]
