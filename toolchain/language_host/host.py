"""The gRPC service `LanguageRuntime` for Python, and the life of its process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2

from toolchain.language_host import packages
from toolchain.language_host.children import Children, end
from toolchain.language_host.environment import EnvironmentProblem, plugin_command, python_for
from toolchain.language_host.program import MESSAGE_SHOWN
from toolchain.language_host.wire import language_pb2, language_pb2_grpc, plugin_pb2

_HERE = Path(__file__).resolve().parent

# Programs and plugins each hold a thread while they run; the other calls are short.
_THREADS = 64
# The engine's own limit; state with large secrets or assets exceeds gRPC's 4 MB.
_MESSAGE_BYTES = 400 * 1024 * 1024

_NOT_HERE = (
    "GenerateProgram",
    "GenerateProject",
    "GeneratePackage",
    "Pack",
    "Link",
    "Template",
)


def _options(options: struct_pb2.Struct) -> dict[str, Any]:
    result: dict[str, Any] = json_format.MessageToDict(options)
    return result


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Runs programs, plugins and policy packs, each in a process of its own."""

    def __init__(self, engine_address: str, children: Children) -> None:
        self._engine = engine_address
        self._children = children
        self._cancelled = threading.Event()

    # --- what the engine asks before it runs anything -------------------------------------

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._engine = request.engine_address or self._engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo()

    def About(self, request: Any, context: Any) -> Any:  # noqa: N802
        return language_pb2.AboutResponse(
            executable=sys.executable, version=".".join(map(str, sys.version_info[:3]))
        )

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:  # noqa: N802
        # None: the engine gets a plugin when a resource first needs it. Naming those of every SDK
        # that is installed would fetch and start a cloud's plugin for a stack without a cloud.
        return language_pb2.GetRequiredPackagesResponse()

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=found["name"], version=found["version"])
                for found in self._ask(request.info, context)
            ]
        )

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:  # noqa: N802
        return language_pb2.RuntimeOptionsResponse()

    def InstallDependencies(self, request: Any, context: Any) -> Any:  # noqa: N802
        python = self._python(request.info, context)
        folder = Path(request.info.program_directory or request.directory)
        lines = [f"Python packages come from {python.parent.parent}."]
        if (folder / "requirements.txt").is_file():
            lines.append(
                "This language host installs nothing into it; if a package is missing: "
                f"{python} -m pip install -r {folder / 'requirements.txt'}"
            )
        yield language_pb2.InstallDependenciesResponse(stdout=("\n".join(lines) + "\n").encode())

    # --- running things -------------------------------------------------------------------

    def Run(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.attach_debugger:
            return language_pb2.RunResponse(
                error="this language host cannot attach a debugger; "
                "leave --attach-debugger out, or install the official Pulumi distribution"
            )
        python = self._python(request.info, context)
        read_end, write_end = os.pipe()
        try:
            child = subprocess.Popen(
                [str(python), "-u", str(_HERE / "program.py"), str(read_end), self._engine],
                stdin=subprocess.DEVNULL,
                pass_fds=(read_end,),
            )
        except OSError:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        with self._children.keep("program", child):
            context.add_callback(lambda: end(child))
            try:
                with os.fdopen(write_end, "wb") as pipe:
                    pipe.write(request.SerializeToString())
            except BrokenPipeError:
                pass  # The child ended before it read its request; its exit status says how.
            status = child.wait()
        if status == 0:
            return language_pb2.RunResponse()
        if status == MESSAGE_SHOWN or self._cancelled.is_set():
            return language_pb2.RunResponse(bail=True)
        if status < 0:
            name = signal.Signals(-status).name
            return language_pb2.RunResponse(error=f"the program was ended by signal {name}")
        return language_pb2.RunResponse(error=f"the program exited with status {status}")

    def RunPlugin(self, request: Any, context: Any) -> Any:  # noqa: N802
        python = self._python(request.info, context)
        try:
            command = plugin_command(
                python, request.kind, request.info.program_directory, list(request.args)
            )
        except EnvironmentProblem as problem:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(problem))
        environment = dict(entry.split("=", 1) for entry in request.env if "=" in entry)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=request.pwd or None,
            env=environment or None,
        )
        with self._children.keep("plugin", child):
            # The engine ends a plugin by cancelling this call.
            context.add_callback(lambda: end(child))
            yield from _streams(child)
            yield language_pb2.RunPluginResponse(exitcode=child.wait())

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._cancelled.set()
        self._children.interrupt("program")
        return empty_pb2.Empty()

    # --- helpers --------------------------------------------------------------------------

    def _python(self, info: Any, context: Any) -> Path:
        try:
            return python_for(_options(info.options), info.root_directory, info.program_directory)
        except EnvironmentProblem as problem:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(problem))
            raise  # abort() has raised already; this tells the type checker.

    def _ask(self, info: Any, context: Any) -> list[dict[str, str]]:
        """Ask `packages` in the environment of the program; our own needs no new process."""
        python = self._python(info, context)
        if python == Path(sys.executable):
            return packages.dependencies()
        command = [str(python), str(_HERE / "packages.py")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, done.stderr.strip().splitlines()[-1])
        answer: list[dict[str, str]] = json.loads(done.stdout)
        return answer


def _not_here(name: str) -> Any:
    def method(self: LanguageHost, request: Any, context: Any) -> Any:
        context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{name}: this small language host runs Python programs, plugins and policy packs. "
            "To generate or convert code, install the official Pulumi distribution.",
        )

    return method


for _name in _NOT_HERE:
    setattr(LanguageHost, _name, _not_here(_name))


def _streams(child: subprocess.Popen[bytes]) -> Iterator[Any]:
    """What a plugin writes, as messages, until both of its streams have ended."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read(name: str, stream: Any) -> None:
        with stream:
            while chunk := stream.read1(65536):
                messages.put(language_pb2.RunPluginResponse(**{name: chunk}))
        messages.put(None)

    readers = [("stdout", child.stdout), ("stderr", child.stderr)]
    for name, stream in readers:
        threading.Thread(target=read, args=(name, stream), daemon=True).start()
    ended = 0
    while ended < len(readers):
        message = messages.get()
        if message is None:
            ended += 1
        else:
            yield message


def main(arguments: list[str]) -> int:
    """Serve until the engine stops us, or is gone."""
    addresses = [argument for argument in arguments if not argument.startswith("-")]
    if not addresses:
        sys.stderr.write("usage: pulumi-language-python ENGINE_ADDRESS (the engine starts it)\n")
        return 2
    parent = os.getppid()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())

    children = Children()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_THREADS),
        options=[
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(
        LanguageHost(addresses[-1], children), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()

    # An engine that is killed tells nobody: its child is then handed to another parent.
    while not stopping.wait(1.0):
        if os.getppid() != parent:
            break
    children.stop_all()
    server.stop(grace=0).wait()
    return 0
