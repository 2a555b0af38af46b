"""Run one Pulumi program: the child process of `Run`.

Started as a file, with the number of a pipe that holds the request; the configuration, which may
hold secrets, is so in no argument list and in no environment.
"""

from __future__ import annotations

import asyncio
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Tells the host that the user has seen a message, so that the engine adds none of its own.
MESSAGE_SHOWN = 32

_NOT_INSTALLED = """\
The Pulumi SDK cannot be imported in {prefix} (shown above).
Install it there with `pip install pulumi`, or put the `bin` folder of the environment that has it
first on PATH.
"""


def _folder(package: str) -> str:
    module = sys.modules.get(package)
    return str(Path(module.__file__).parent) + os.sep if module and module.__file__ else "\0"


def user_traceback(error: BaseException) -> str:
    """The traceback from the first line of the user's code on, for the whole chain of causes."""
    machinery = (__file__, "<frozen runpy>", _folder("asyncio"), _folder("pulumi"))
    report = traceback.TracebackException.from_exception(error)
    pending: list[traceback.TracebackException] = [report]
    while pending:
        part = pending.pop()
        frames = list(part.stack)
        while frames and frames[0].filename.startswith(machinery):
            frames.pop(0)
        # A syntax error has no frame of the user's; it names the file and line by itself.
        if frames or part.exc_type is SyntaxError:
            part.stack = traceback.StackSummary.from_list(frames)
        pending += [linked for linked in (part.__cause__, part.__context__) if linked]
    return "".join(report.format())


def _program_file(program_directory: str, entry_point: str) -> Path:
    """The file to run. Raises FileNotFoundError, saying what is missing."""
    target = Path(program_directory, entry_point or ".").absolute()
    file = target / "__main__.py" if target.is_dir() else target
    if not file.is_file():
        raise FileNotFoundError(
            f"no Python program at {file}: the folder that `main` in Pulumi.yaml names "
            "(or the project's folder) needs a __main__.py"
        )
    return file


def run(serialized: bytes) -> int:
    """Run the program that a serialized `RunRequest` describes; answer the exit status."""
    try:
        import grpc
        import pulumi
        import pulumi.runtime
        from pulumi.runtime.proto import language_pb2
    except ImportError:
        traceback.print_exc()
        sys.stderr.write(_NOT_INSTALLED.format(prefix=sys.prefix))
        return MESSAGE_SHOWN

    request = language_pb2.RunRequest.FromString(serialized)
    parallel = max(request.parallel, 1)
    pulumi.runtime.set_all_config(dict(request.config), list(request.configSecretKeys))
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            monitor=request.monitor_address,
            engine=sys.argv[2],
            project=request.project,
            stack=request.stack,
            parallel=request.parallel,
            dry_run=request.dryRun,
            organization=request.organization,
            root_directory=request.info.root_directory,
        )
    )
    try:
        file = _program_file(request.info.program_directory, request.info.entry_point)
    except FileNotFoundError as problem:
        pulumi.log.error(str(problem))
        return MESSAGE_SHOWN

    os.chdir(request.pwd or file.parent)
    sys.path[0] = str(file.parent)
    sys.argv = [str(file), *request.args]

    # A deployment that fails half-way leaves futures that nobody awaits. asyncio would report
    # each of them, after the one error that matters.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    # Calls to the engine wait in threads; four for each operation that may run keeps them fed.
    executor = ThreadPoolExecutor(max_workers=parallel * 4)
    loop.set_default_executor(executor)

    def program() -> None:
        runpy.run_path(str(file), run_name="__main__")

    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(program))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return MESSAGE_SHOWN
    except KeyboardInterrupt:
        # Ctrl-C, or the engine gave up (a policy failed): it has told the user why.
        return MESSAGE_SHOWN
    except Exception as error:
        if isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE:
            # The engine closes its end once the deployment has failed, and reports that itself.
            return MESSAGE_SHOWN
        pulumi.log.error(f"Program failed with an unhandled exception:\n{user_traceback(error)}")
        return MESSAGE_SHOWN
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        loop.close()
    return 0


def main() -> int:
    try:
        with os.fdopen(int(sys.argv[1]), "rb") as pipe:
            serialized = pipe.read()
        return run(serialized)
    except KeyboardInterrupt:
        return MESSAGE_SHOWN
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
