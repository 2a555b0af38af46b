"""Building the server's image in a program: where its context lies, its tag, and names by digest.

What goes into the context is `sixways.image`'s; here is what every component that builds it shares.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi

from sixways.checks import Checks, InputsRefused
from sixways.image import BuildContext, prepare
from sixways_bundle import BundleError, Problem

_BY_DIGEST = re.compile(
    r"(?P<name>[^\s@:/]+(?::\d+)?(?:/[^\s@:]+)+)(?::[^\s@/]+)?@(?P<digest>sha256:[0-9a-f]{64})"
)
_PLAIN = ("package", "extras", "dockerfile", "platforms", "cache", "dev", "load")


def is_by_digest(reference: str) -> bool:
    """Whether an image is named as `REPOSITORY@sha256:…`, with or without a tag in between."""
    return _BY_DIGEST.fullmatch(reference) is not None


def by_digest(component: str, reference: str) -> dict[str, str]:
    """`name` and `digest` of such a reference.

    Raises:
        InputsRefused: it is none, and was not known when the inputs were checked.
    """
    match = _BY_DIGEST.fullmatch(reference)
    if match is None:
        raise InputsRefused(component, [Problem("image_uri", reference, "REPOSITORY@sha256:…")])
    return match.groupdict()


def check_plain(checks: Checks, args: Mapping[str, Any]) -> None:
    """What decides how the context is made must be known before any resource."""
    for field in _PLAIN:
        if isinstance(args.get(field), pulumi.Output):
            checks.add(field, "an output", "a plain value",
                       "the build context is made before any resource")  # fmt: skip


def project_context(component: str, name: str, args: Mapping[str, Any]) -> BuildContext:
    """The build context, below the project.

    Its path is relative: the engine compares it with the one before, and another machine has the
    project elsewhere.

    Args:
        component: the component's type, for messages.
        name: its name.
        args: its inputs; `package`, `extras` and `dockerfile` count.

    Raises:
        InputsRefused: a file that the inputs name is missing.
    """
    project = Path(pulumi.get_root_directory() or Path.cwd())
    folder = project / ".sixways" / "image" / pulumi.get_stack() / name
    dockerfile = args.get("dockerfile")
    try:
        context = prepare(
            folder,
            package=args.get("package"),
            extras=args.get("extras", ()),
            dockerfile=None if dockerfile is None else Path(dockerfile),
        )
    except BundleError as error:
        if error.problems:
            raise InputsRefused(f"{component} {name}", error.problems) from error
        raise
    return BuildContext(
        Path(os.path.relpath(context.folder)), context.build_args, context.digest, context.version
    )


def image_tag(
    name: str, context: BuildContext, build_args: Mapping[str, str], platforms: list[str]
) -> str:
    """`VERSION-HASH`; the hash covers what goes into the build, and the stack.

    The stack, since two stacks that share a repository build two images of one source, and an
    immutable tag takes only one.
    """
    whole = [pulumi.get_project(), pulumi.get_stack(), name, context.digest,
             sorted(build_args.items()), platforms]  # fmt: skip
    digest = hashlib.sha256(json.dumps(whole).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', context.version)}-{digest[:16]}"
