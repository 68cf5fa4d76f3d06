"""Deploys template.yaml to an emulator as `sam deploy` does: packages uploaded, then a CloudFormation change set.

The template that is deployed is the project's own. Only what `sam package` changes is changed: each function's CodeUri
names an uploaded object. Stack names are unique, so that runs never meet. Fails with `Trouble` that names the resource.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config

from local import KEY_ID, REGION, ROOT, SECRET, Trouble

DEPLOY_SECONDS = 120
CODE_BUCKET = "sluicegate-code"


@dataclass(frozen=True)
class Stack:
    """The template's outputs: `InboxBucketName` is `inbox_bucket_name`."""

    name: str
    inbox_bucket_name: str
    lake_bucket_name: str
    stage_queue_url: str
    stage_replay_queue_url: str
    promote_queue_url: str
    promote_replay_queue_url: str
    replay_queue_url: str
    stage_dlq_url: str
    stage_replay_dlq_url: str
    promote_dlq_url: str
    promote_replay_dlq_url: str
    replay_dlq_url: str
    land_failed_queue_url: str
    land_function_name: str
    stage_function_name: str
    promote_function_name: str
    replay_function_name: str


def client(service: str, endpoint: str) -> Any:
    """A boto3 client for the emulator, deaf to the caller's own AWS configuration."""
    return boto3.session.Session(KEY_ID, SECRET, region_name=REGION).client(
        service,
        endpoint_url=endpoint,
        config=Config(
            s3={"addressing_style": "path"}, proxies={}, read_timeout=330, max_pool_connections=32, retries={"total_max_attempts": 3}
        ),
    )


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation reads it: short forms become their long ones, and dates stay text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _short_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def load_template(path: Path = ROOT / "template.yaml") -> dict[str, Any]:
    return yaml.load(path.read_text(), Loader=_Loader)


def deploy(endpoint: str, packages: dict[str, Path], **parameters: str) -> Stack:
    """Deploys with one package per function, named as the function's CodeUri folder is, and with parameters of the caller's."""
    template = load_template()
    _upload_packages(client("s3", endpoint), template, packages)
    name = f"sluicegate-{uuid.uuid4().hex[:8]}"
    formation = client("cloudformation", endpoint)
    formation.create_change_set(
        StackName=name,
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=json.dumps(template, separators=(",", ":")),
        Parameters=_parameters(template, parameters),
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    _settle(lambda: formation.describe_change_set(StackName=name, ChangeSetName="first"), "Status", "CREATE_COMPLETE")
    formation.execute_change_set(StackName=name, ChangeSetName="first")
    try:
        _settle(lambda: formation.describe_stacks(StackName=name)["Stacks"][0], "StackStatus", "CREATE_COMPLETE")
    except Trouble as trouble:
        events = formation.describe_stack_events(StackName=name)["StackEvents"]
        failed = [f"{e['LogicalResourceId']}: {e.get('ResourceStatusReason')}" for e in events if "FAILED" in e["ResourceStatus"]]
        raise Trouble("\n".join([str(trouble), *failed])) from None
    return _outputs(name, formation.describe_stacks(StackName=name)["Stacks"][0].get("Outputs", []))


def _upload_packages(s3: Any, template: dict[str, Any], packages: dict[str, Path]) -> None:
    s3.create_bucket(Bucket=CODE_BUCKET)
    for logical_id, resource in template["Resources"].items():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        folder = Path(resource["Properties"]["CodeUri"]).name
        if folder not in packages:
            raise Trouble(f"template.yaml: {logical_id} wants code from {folder!r}, which is not built here")
        body = packages[folder].read_bytes()
        key = f"{folder}-{hashlib.sha256(body).hexdigest()[:16]}.zip"
        s3.put_object(Bucket=CODE_BUCKET, Key=key, Body=body)
        resource["Properties"]["CodeUri"] = {"Bucket": CODE_BUCKET, "Key": key}
        # The package is finished: what tells `sam build` how to make one would only confuse the transform.
        resource.pop("Metadata", None)


def _parameters(template: dict[str, Any], more: dict[str, str]) -> list[dict[str, str]]:
    """What this machine and the emulator need, and the caller; everything else keeps the template's default."""
    wanted = {
        "Architecture": "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64",
        # The emulator ignores the condition on a copy; land then looks before it copies.
        "CopyCondition": "off",
        **more,
    }
    known = template.get("Parameters", {})
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.items() if key in known]


def _settle(describe: Any, field: str, good: str) -> None:
    deadline = time.monotonic() + DEPLOY_SECONDS
    while time.monotonic() < deadline:
        state = describe()
        if state[field] == good:
            return
        if not re.search(r"(PENDING|IN_PROGRESS)$", state[field]):
            raise Trouble(f"deploying template.yaml ended in {state[field]}: {state.get('StatusReason') or state.get('StackStatusReason')}")
        time.sleep(0.1)
    raise Trouble(f"deploying template.yaml took longer than {DEPLOY_SECONDS} s")


def _outputs(name: str, outputs: list[dict[str, str]]) -> Stack:
    values = {re.sub(r"(?<!^)(?=[A-Z])", "_", o["OutputKey"]).lower(): o["OutputValue"] for o in outputs}
    wanted = [field.name for field in fields(Stack) if field.name != "name"]
    if missing := [field for field in wanted if field not in values]:
        raise Trouble(f"template.yaml has no outputs for {', '.join(missing)}")
    return Stack(name, **{field: values[field] for field in wanted})
