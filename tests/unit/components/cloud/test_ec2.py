"""What an `Ec2Endpoint` accepts, what its machines may do, and the script they start with."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pulumi
import pytest

from sixways.cloud.ec2 import endpoint
from sixways.cloud.ec2.boot import Boot, Model
from sixways.cloud.ec2.endpoint import _console
from sixways.cloud.ec2.problems import problems
from sixways.cloud.ec2.role import machine_policy, trust_policy
from sixways.cloud.network import subnets
from sixways_server.config import ServerConfig

_HEX = 64 * "a"
_URI = f"s3://models/bundles/minilm/{_HEX}/"
_MODEL = {"name": "minilm", "bundle_uri": _URI, "bundle_digest": f"sha256:{_HEX}"}
_GOOD: dict[str, Any] = {
    "models": [_MODEL],
    "instance_type": "c7i.large",
    "certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/1-2",
    "allowed_cidrs": ["203.0.113.0/24", "2001:db8::/32"],
}
_VPC = {"vpc_id": "vpc-1", "private_subnet_ids": ["a", "b"], "public_subnet_ids": ["c", "d"]}


def found(name: str = "search", **changes: Any) -> dict[str, str]:
    """The problems of the good inputs with those changes: the field and the whole message."""
    args = {**_GOOD, **changes}
    args = {field: value for field, value in args.items() if value is not None}
    return {problem.field: str(problem) for problem in problems(name, args)}  # type: ignore[arg-type]


def boot(**changes: Any) -> Boot:
    given: dict[str, Any] = {
        "models": (Model(**_MODEL),),
        "region": "eu-west-1",
        "version": "1.2.3",
        "keys_parameter": "keys:4",
        "log_group": "logs",
        "architecture": "x86_64",
        "gpu": False,
        "package_index": None,
        "wheelhouse_uri": None,
        "workers": 2,
        "request_seconds": 600.0,
        "drain_seconds": 30.0,
        "max_body_bytes": 1 << 20,
        "requests_per_minute": None,
        "keepalive_seconds": 620,
    }
    return Boot(**{**given, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        _VPC,
        {"vpc_id": "vpc-1", "private_subnet_ids": ["a", "b"], "internal": True},
        {"min_size": 1, "max_size": 1, "dev": True},
        {"models": [{**_MODEL, "bundle_uri": pulumi.Output.from_input(_URI)}]},
        {"instance_type": "g5.xlarge", "ami_id": "ami-0123456789abcdef0"},
        {"ssl_policy": "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"},
    ],
)
def test_inputs_that_can_be_used(changes: dict[str, Any]) -> None:
    assert found(**changes) == {}


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"models": []}, "models", "add models"),
        ({"models": [_MODEL, _MODEL]}, "models[1].name", "each name once"),
        ({"models": [{**_MODEL, "bundle_digest": "sha256:" + 64 * "b"}]},
         "models[0].bundle_digest", "as in bundle_uri"),
        ({"models": [{**_MODEL, "bundle_uri": "https://x"}]}, "models[0].bundle_uri", "s3://"),
        ({"models": [{**_MODEL, "bundle_uri": "s3://models/a b;c"}]}, "models[0].bundle_uri", ""),
        ({"models": [{**_MODEL, "varient": "x"}]}, "models[0].varient", "variant"),
        ({"models": [{**_MODEL, "variant": "vllm-bf16"}]}, "models[0].variant", "NVIDIA"),
        ({"instance_type": "ml.c7i.large"}, "instance_type", "write c7i.large"),
        ({"instance_type": "c99.huge"}, "instance_type", "an instance type of EC2"),
        ({"instance_type": "g5.xlarge"}, "ami_id", "driver"),
        ({"certificate_arn": None}, "certificate_arn", "add certificate_arn"),
        ({"certificate_arn": "api.example.com"}, "certificate_arn", "the ARN of a certificate"),
        ({"allowed_cidrs": None}, "allowed_cidrs", "add"),
        ({"allowed_cidrs": ["10.0.0.1/8"]}, "allowed_cidrs[0]", "host bits"),
        ({"allowed_cidrs": ["203.0.113.5"]}, "allowed_cidrs[0]", "no length"),
        ({"api_key": "short"}, "api_key", "16"),
        ({"previous_api_key": "with spaces in it, sir"}, "previous_api_key", "16"),
        ({"min_size": 1}, "min_size", "single point of failure"),
        ({"min_size": 4, "max_size": 3}, "max_size", "at least min_size 4"),
        ({"vpc_id": "vpc-1"}, "private_subnet_ids", "2 zones"),
        ({**_VPC, "public_subnet_ids": None}, "public_subnet_ids", "2 zones"),
        ({**_VPC, "private_subnet_ids": ["a", "a"]}, "private_subnet_ids", "two zones"),
        ({"private_subnet_ids": ["a", "b"]}, "private_subnet_ids", "without vpc_id"),
        ({"availability_zones": ["us-east-1a"]}, "availability_zones", "two zones"),
        ({**_VPC, "vpc_cidr": "10.0.0.0/16"}, "vpc_cidr", "beside vpc_id"),
        ({"vpc_cidr": "10.0.0.0/28"}, "vpc_cidr", "/16 to /24"),
        ({"ssl_policy": "ELBSecurityPolicy-2016-08"}, "ssl_policy", "TLS 1.3"),
        ({"ssl_policy": "ELBSecurityPolicy-TLS13-1-0-2021-06"}, "ssl_policy", "TLS 1.0"),
        ({"request_seconds": 5000}, "request_seconds", "4000"),
        ({"log_retention_days": 31}, "log_retention_days", "30"),
        ({"hosted_zone_id": "Z1"}, "domain", "add domain"),
        ({"package_index": "http://index"}, "package_index", "https://"),
        ({"rollback_alarms": [str(n) for n in range(11)]}, "rollback_alarms", "10 at most"),
        ({"kms_key_arn": "alias/x"}, "kms_key_arn", "not of an alias"),
        ({"ami_id": "ami-0123456789", "ami_parameter": "/x"}, "ami_parameter", "remove"),
        ({"instance_typ": "x"}, "instance_typ", "instance_type"),
        ({"internal": pulumi.Output.from_input(True)}, "internal", "a plain value"),
    ],
)  # fmt: skip
def test_inputs_that_cannot_be_used_are_named(
    changes: dict[str, Any], field: str, says: str
) -> None:
    assert says in found(**changes)[field]


def test_a_key_that_is_too_short_is_not_shown() -> None:
    assert "hunter2" not in " ".join(found(api_key="hunter2").values())


def test_a_password_of_a_package_index_is_refused_and_not_shown() -> None:
    told = found(package_index="https://me:hunter2@index.example/simple")
    assert "without a name and password" in told["package_index"]
    assert "hunter2" not in told["package_index"]


@pytest.mark.parametrize(
    "name", ["sg-search", "internal-search", "a" * 22, "1st", "with_underscore"]
)
def test_a_name_that_would_make_a_name_aws_refuses_is_refused(name: str) -> None:
    assert "name" in found(name)


def test_all_problems_are_told_at_once() -> None:
    assert set(found(models=[], instance_type=None, min_size=0, api_key="x")) == {
        "models", "instance_type", "min_size", "api_key",
    }  # fmt: skip


def test_no_right_is_wider_than_it_must_be() -> None:
    policy = json.loads(
        machine_policy(
            folders=[_URI, "s3://models/bundles/other/", "s3://wheels/v1/"],
            parameter_arn="arn:aws:ssm:us-east-1:1:parameter/keys",
            log_group_arn="arn:aws:logs:us-east-1:1:log-group:logs:*",
            kms_key_arns=["arn:aws:kms:us-east-1:1:key/2"],
        )
    )
    actions = [
        action
        for statement in policy["Statement"]
        for action in msgspec.convert(_list(statement["Action"]), list[str])
    ]
    assert not [action for action in actions if "*" in action]
    everywhere = {s["Sid"] for s in policy["Statement"] if "*" in _list(s["Resource"])}
    # None of them has a resource that could be named (see `machine_policy`).
    assert everywhere == {"SessionManager", "Memory", "GroupName"}
    tags = next(s for s in policy["Statement"] if s["Sid"] == "GroupName")
    assert tags["Action"] == "ec2:DescribeTags"
    assert tags["Condition"] == {"StringEquals": {"ec2:Region": "us-east-1"}}
    reads = next(s for s in policy["Statement"] if s["Sid"] == "ReadBundles")["Resource"]
    assert reads == [
        f"arn:aws:s3:::models/bundles/minilm/{_HEX}/*",
        "arn:aws:s3:::models/bundles/other/*",
        "arn:aws:s3:::wheels/v1/*",
    ]
    lists = [s for s in policy["Statement"] if s["Action"] == "s3:ListBucket"]
    assert [s["Resource"] for s in lists] == ["arn:aws:s3:::models", "arn:aws:s3:::wheels"]
    assert all(s["Condition"]["StringLike"]["s3:prefix"] for s in lists)
    assert json.loads(trust_policy("amazonaws.com"))["Statement"][0]["Principal"] == {
        "Service": "ec2.amazonaws.com"
    }


def test_the_page_of_the_target_group_is_that_of_its_partition() -> None:
    arn = "arn:aws-cn:elasticloadbalancing:cn-north-1:1:targetgroup/a/b"
    assert _console(arn).startswith("https://cn-north-1.console.amazonaws.cn/ec2/home?region=")


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize(
    "changes", [{}, {"wheelhouse_uri": "s3://wheels/v1/"}, {"gpu": True, "architecture": "arm64"}]
)
def test_the_script_is_one_that_a_shell_can_read(changes: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "user-data"
    script.write_text(boot(**changes).render())
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(script)], check=True)


def test_what_a_name_holds_is_never_run() -> None:
    evil = Model(name="m", bundle_uri="s3://b/$(touch /x)';", bundle_digest=f"sha256:{_HEX}")
    line = next(
        line for line in boot(models=(evil,)).render().splitlines() if "bundle fetch" in line
    )
    assert "s3://b/$(touch /x)';" in shlex.split(line)


def test_the_server_takes_the_configuration_in_the_script(tmp_path: Path) -> None:
    model = Model(**_MODEL, variant="torch-bf16")
    written = re.search(
        r"put /etc/sixways/main.json 0640 sixways <<'SIXWAYS_END'\n(.*?)SIXWAYS_END",
        boot(models=(model,)).render(),
        re.S,
    )
    assert written is not None
    raw = json.loads(written[1])
    assert raw["models"] == [
        {
            "name": "minilm",
            "path": f"/opt/sixways/bundles/{_HEX}",
            "digest": f"sha256:{_HEX}",
            "variant": "torch-bf16",
        }
    ]
    here = {
        "models": [{"name": "m", "path": "dummy:embeddings"}],
        "keys_file": str(tmp_path / "keys.json"),
        "status_file": str(tmp_path / "status.json"),
    }
    (tmp_path / "keys.json").write_text('{"keys": []}')
    assert ServerConfig.from_dict({**raw, **here}).workers == 2


def test_what_an_engine_needs_is_installed() -> None:
    torch = Model(**_MODEL, variant="torch-bf16")
    assert boot().requirement == "sixways[s3,server]==1.2.3"
    assert boot(models=(torch,)).requirement == "sixways[s3,server,torch]==1.2.3"
    assert boot(gpu=True).requirement == "sixways[gpu,s3,server]==1.2.3"


def test_a_wheelhouse_alone_asks_no_index() -> None:
    alone = boot(wheelhouse_uri="s3://wheels/v1").render()
    assert "--no-index" in alone
    beside = boot(wheelhouse_uri="s3://wheels/v1", package_index="https://i/simple").render()
    assert "--no-index" not in beside
    assert "--index-url https://i/simple" in beside


def test_a_script_that_aws_would_not_take_is_refused() -> None:
    many = tuple(
        Model(name=f"m{n}", bundle_uri=_URI, bundle_digest=f"sha256:{n:064x}") for n in range(20)
    )
    with pytest.raises(ValueError, match=r"models: .* fewer models"):
        boot(models=many).render()


def test_subnets_of_a_network_do_not_overlap() -> None:
    public, private = subnets("10.64.0.0/16", 3)
    assert public == ["10.64.0.0/20", "10.64.16.0/20", "10.64.32.0/20"]
    assert private == ["10.64.128.0/20", "10.64.144.0/20", "10.64.160.0/20"]


def test_the_console_is_that_of_the_regions_partition() -> None:
    arn = "arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:targetgroup/a/1"
    assert endpoint._console(arn) == (
        "https://cn-north-1.console.amazonaws.cn/ec2/home?region=cn-north-1"
        f"#TargetGroup:targetGroupArn={arn}"
    )
