"""Speaks the plugin protocol: the SDK's servicer, with errors people can read."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

import sixways
from sixways.plugin.provider import SixwaysProvider
from sixways.plugin.resource import PartlyMade, Severity
from sixways_bundle import BundleError

_SEVERITY = {"info": engine_pb2.INFO, "warning": engine_pb2.WARNING}
_LARGEST_MESSAGE = 400 * 1024 * 1024  # the engine's own limit


class _Servicer(ProviderServicer):
    """The SDK would put the exception's class into the text that the user reads."""

    async def _guarded(self, method: Callable[..., Awaitable[Any]], request: Any, ctx: Any) -> Any:
        try:
            return await method(request, ctx)
        except PartlyMade as error:
            code = grpc.StatusCode.FAILED_PRECONDITION
            await ctx.abort(code, str(error), _details(code, error))
        except BundleError as error:
            await ctx.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Check, request, context)

    async def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._guarded(super().Diff, request, context)

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._guarded(super().Create, request, context)

    async def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._guarded(super().Read, request, context)

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._guarded(super().Update, request, context)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._guarded(super().Delete, request, context)


def _details(code: grpc.StatusCode, error: PartlyMade) -> tuple[tuple[str, bytes], ...]:
    """What the engine reads beside a status: the resource that stands in spite of the error."""
    failed = provider_pb2.ErrorResourceInitFailed(
        id=error.resource_id,
        properties=PropertyValue.marshal_map(error.properties),
        reasons=[str(error)],
    )
    status = status_pb2.Status(code=code.value[0], message=str(error))
    status.details.add().Pack(failed)
    return (("grpc-status-details-bin", status.SerializeToString()),)


def main() -> None:
    """Serves until the engine ends the process. The engine's address is the first argument."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1]))


async def _serve(engine_address: str) -> None:
    channel = grpc.insecure_channel(engine_address)
    engine = engine_pb2_grpc.EngineStub(channel)

    def log(urn: str, severity: Severity, message: str, ephemeral: bool) -> None:
        # A message that cannot be shown must not end the work it is about.
        with contextlib.suppress(grpc.RpcError):
            engine.Log(
                engine_pb2.LogRequest(
                    severity=_SEVERITY[severity], message=message, urn=urn, ephemeral=ephemeral
                )
            )

    limits = [
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
    ]
    server = grpc.aio.server(options=limits)
    servicer = _Servicer(
        sys.argv[1:], sixways.__version__, SixwaysProvider(log), engine_address=engine_address
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The engine reads the port from the first line.
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()
