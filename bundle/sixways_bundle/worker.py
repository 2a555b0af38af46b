"""Builds in a process of its own, so that a build's engines and memory leave with it.

The child reads one request on standard input and answers with JSON lines on standard output;
whatever a library prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from sixways_bundle.build import Progress, Request, Result, build
from sixways_bundle.errors import BundleError, Problem
from sixways_bundle.manifest import Manifest
from sixways_bundle.report import BuildReport


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    step: str = ""
    fraction: float = 0.0
    message: str = ""
    path: str = ""
    cached: bool = False
    report: BuildReport | None = None
    failed: bool = False
    problems: list[dict[str, str]] = []


def build_in_child(
    request: Request,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    on_start: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Result:
    """Like `build.build`, in a child process.

    Args:
        request: what to build.
        cache_dir: the cache; None: the usual one.
        progress: told about every step.
        on_start: given the child, so that it can be ended when the build is no longer wanted.

    Raises:
        BundleError: as `build.build` raises it, or the child ended without an answer.
    """
    # A build may need the user's network and hub settings, and nothing of Pulumi's.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")}
    if cache_dir is not None:
        environment["SIXWAYS_CACHE"] = str(cache_dir)
    with subprocess.Popen(
        [sys.executable, "-m", "sixways_bundle.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as child:
        if on_start:
            on_start(child)
        if not (child.stdin and child.stdout and child.stderr):
            raise RuntimeError("the child has no pipes")
        errors = _drain(child.stderr)
        # A child that dies while it imports reads nothing: what it said on the way tells why.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(msgspec.json.encode(request))
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        last: _Line | None = None
        for raw in child.stdout:
            last = msgspec.json.decode(raw, type=_Line)
            if last.step and progress:
                progress(last.step, last.fraction, last.message)
        code = child.wait()
    if last is not None and last.failed:
        raise BundleError(last.message, [Problem(**problem) for problem in last.problems])
    if code != 0 or last is None or last.report is None:
        tail = "\n".join(errors()[-20:])
        how = f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            how = "was killed, probably for lack of memory; choose a smaller model or free memory"
        raise BundleError(f"the build of {request.name} {how}\n{tail}".rstrip())
    path = Path(last.path)
    return Result(path, Manifest.load(path), last.report, last.cached)


def _drain(stream: IO[bytes]) -> Callable[[], list[str]]:
    """Reads a stream in the background, so that the child never blocks on it."""
    lines: list[str] = []
    thread = threading.Thread(
        target=lambda: lines.extend(raw.decode(errors="replace").rstrip() for raw in stream),
        daemon=True,
    )
    thread.start()

    def collected() -> list[str]:
        thread.join(timeout=5)
        return lines

    return collected


def main() -> int:
    """The child: a request on standard input, JSON lines on standard output."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def send(line: _Line) -> None:
        answers.write(msgspec.json.encode(line) + b"\n")

    try:
        request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
        result = build(
            request,
            progress=lambda step, fraction, message: send(
                _Line(step=step, fraction=fraction, message=message)
            ),
        )
    except BundleError as error:
        problems = [
            {"field": p.field, "value": p.value, "accepted": p.accepted, "fix": p.fix}
            for p in error.problems
        ]
        send(_Line(failed=True, message=error.message, problems=problems))
        return 1
    send(_Line(path=str(result.path), cached=result.cached, report=result.report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
