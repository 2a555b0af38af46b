"""What `import sixways` loads, and what it must not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sixways

_SHOW = "import sys; {}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after `statement`."""
    code = _SHOW.format(statement)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_the_package_loads_no_pulumi_and_no_sdk() -> None:
    assert not loaded_by("import sixways") & {"pulumi", "grpc", "boto3", "torch", "openvino"}


@pytest.mark.parametrize(
    "module", ["sixways_bundle", "sixways_bundle.build", "sixways_bundle.verify", "sixways.cli"]
)
def test_the_bundle_and_the_command_line_load_no_engine(module: str) -> None:
    engines = {"torch", "openvino", "onnxruntime", "onnx", "nncf", "transformers", "numpy"}
    assert not loaded_by(f"import {module}") & engines


def test_every_public_name_can_be_had() -> None:
    for name in sixways.__all__:
        assert getattr(sixways, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="SageMaker"):
        _ = sixways.SageMakerEndpoint


def test_the_tokens_of_the_classes_are_those_of_the_plugin() -> None:
    from sixways.plugin.provider import RESOURCES

    assert {resource.token for resource in RESOURCES} == {
        "sixways:api:NginxProcess",
        "sixways:cloud:BundleUpload",
        "sixways:index:ApiKey",
        "sixways:index:Bundle",
        "sixways:local:LocalEndpoint",
        "sixways:server:Host",
        "sixways:server:Monitoring",
        "sixways:server:Release",
        "sixways:server:SelfSignedCertificate",
        "sixways:server:Site",
    }
