"""The tier itself: a stack of the ordinary SDK, and an AWS that is empty afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.aws.server import Aws
from tests.engine.pulumi_stack import Stack

pytestmark = pytest.mark.aws
_PROGRAM = """
import pulumi_aws as aws
aws.sns.Topic("alerts")
"""


def test_what_stands_in_aws_is_listed_and_a_destroy_leaves_nothing(
    aws: Aws, aws_env: dict[str, str], project: Path
) -> None:
    (project / "__main__.py").write_text(_PROGRAM)
    assert aws.left() == []
    with Stack(project, aws_env) as stack:
        stack.up()
        (topic,) = aws.left()
        assert topic.startswith("sns Topics arn:aws:sns:us-east-1:123456789012:alerts-")
        stack.up("--expect-no-changes")
    assert aws.left() == []
