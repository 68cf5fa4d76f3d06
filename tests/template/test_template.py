"""template.yaml holds what the design asks of it.

Checks are relations (who may do what to which key, how long against how long), evaluated on the template with its
intrinsics resolved, not comparisons of text. A check that could not fail would prove nothing: each is run against
mutations of the template that break it, and must catch every one.
"""

import copy
import fnmatch
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION, STACK = "000000000000", "us-east-1", "sluicegate"
FUNCTIONS = ("land", "stage", "promote", "replay")
WORK_QUEUES = {"StageQueue": "StageDlq", "StageReplayQueue": "StageReplayDlq", "PromoteQueue": "PromoteDlq",
               "PromoteReplayQueue": "PromoteReplayDlq", "ReplayQueue": "ReplayDlq"}
FAILURE_QUEUES = {*WORK_QUEUES.values(), "LandFailedQueue"}
BUCKETS = {"InboxBucket": "InboxBucketPolicy", "LakeBucket": "LakeBucketPolicy"}

RAW_ID = "20130102T030405Z-00112233445566778899aabbccddeeff"
ORDER = "e0000000000-c00001-g00001"
RAW = f"raw/flights/2013-01-01.csv/{RAW_ID}"
CONTRACT, CONTRACT_POINTER = "contracts/flights/1.json", "contracts/flights/current.json"
STAGING = f"staging/flights/{RAW_ID}/{ORDER}"
PROPOSAL, REPORT, DECISION, CLOSING = (
    f"{STAGING}/{name}" for name in ("proposal.json", "report.html", "decision.json", "closed.json")
)
HELD_POINTER = f"{STAGING}/table/metadata/version-hint.text"
QUARANTINE = f"quarantine/flights/{RAW_ID}/{ORDER}-0.rows"
DATA = f"tables/flights/data/time_hour_day=2013-01-01/{RAW_ID}-1b4e28ba-0.parquet"
METADATA = "tables/flights/metadata/00001-1b4e28ba.metadata.json"
MANIFEST = "tables/flights/metadata/snap-1-1b4e28ba.avro"
POINTER = "tables/flights/metadata/version-hint.text"
PLAN, PROGRESS = (f"replays/flights/e0000000012-0123456789ab/{name}.json" for name in ("plan", "progress"))
POINTERS = (POINTER, CONTRACT_POINTER, PROGRESS)
CREATED_ONCE = (
    RAW, CONTRACT, PROPOSAL, REPORT, DECISION, CLOSING, HELD_POINTER, QUARANTINE, DATA, METADATA, MANIFEST, PLAN, "anything/added/later"
)


# ------------------------------------------------------------------------------------------------ reading a template


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short tags as their long forms."""


def _tag(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _tag)
TEMPLATE = yaml.load((ROOT / "template.yaml").read_text(), _Loader)
NO_VALUE = object()


class Stack:
    """A template with its parameters: gives properties with every intrinsic resolved as CloudFormation would."""

    def __init__(self, template, **parameters):
        self.template = template
        self.resources = template["Resources"]
        self.values = {n: p.get("Default") for n, p in template["Parameters"].items()} | parameters
        self.values |= {"AWS::AccountId": ACCOUNT, "AWS::Region": REGION, "AWS::StackName": STACK, "AWS::Partition": "aws", "AWS::NoValue": NO_VALUE}

    def __getitem__(self, name):
        return self.resolve(self.resources[name].get("Properties", {}))

    def of_type(self, kind):
        return [n for n, r in self.resources.items() if r["Type"] == kind]

    def arn(self, name):
        kind = self.resources[name]["Type"]
        if kind == "AWS::SQS::Queue":
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self[name]['QueueName']}"
        if kind == "AWS::IAM::Role":
            return f"arn:aws:iam::{ACCOUNT}:role/{STACK}-{name}"
        if kind == "AWS::Logs::LogGroup":
            return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{self[name]['LogGroupName']}:*"
        if kind == "AWS::S3::Bucket":
            return f"arn:aws:s3:::{self[name]['BucketName']}"
        raise KeyError(f"no ARN known for {kind}")

    def resolve(self, node):
        if isinstance(node, list):
            return [v for v in map(self.resolve, node) if v is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (key, value), = node.items()
            if key == "Ref":
                return self.values[value] if value in self.values else self.reference(value)
            if key == "Fn::Sub":
                text, own = value if isinstance(value, list) else (value, {})
                return re.sub(r"\$\{([^}]+)\}", lambda m: str(self.resolve(own.get(m[1], {"Ref": m[1]}))), text)
            if key == "Fn::GetAtt":
                return self.arn(value[0]) if value[1] == "Arn" else self[value[0]][value[1]]
            if key == "Fn::FindInMap":
                name, row, column = self.resolve(value)
                return self.template["Mappings"][name][row][column]
            if key == "Fn::If":
                return self.resolve(value[1] if self.holds({"Condition": value[0]}) else value[2])
        return {k: r for k, v in node.items() if (r := self.resolve(v)) is not NO_VALUE}

    def reference(self, name):
        if self.resources[name]["Type"] == "AWS::S3::Bucket":
            return self[name]["BucketName"]
        return f"ref:{name}"

    def holds(self, node):
        (key, value), = node.items()
        if key == "Condition":
            return self.holds(self.template["Conditions"][value])
        if key == "Fn::Not":
            return not self.holds(value[0])
        assert key == "Fn::Equals", key
        left, right = self.resolve(value)
        return left == right

    def events(self, kind):
        """(function, event name, properties) of every event source of a kind."""
        return [(f, n, self.resolve(e["Properties"])) for f in self.of_type("AWS::Serverless::Function")
                for n, e in self[f].get("Events", {}).items() if e["Type"] == kind]

    def queue_of(self, arn):
        return next(q for q in self.of_type("AWS::SQS::Queue") if self.arn(q) == arn)


# ------------------------------------------------------------------------------------------------ judging a request


def _list(value):
    return value if isinstance(value, list) else [value]


def _matches(pattern, value):
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), value, re.S) is not None


def _condition(operator, key, wanted, context):
    wanted = [str(w).lower() if isinstance(w, bool) else str(w) for w in _list(wanted)]
    if operator == "Null":
        return str(key not in context).lower() in wanted
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    if key not in context:
        return if_exists or operator in ("StringNotEquals", "ArnNotEquals")
    found = context[key]
    if operator in ("Bool", "StringEquals"):
        return found in wanted
    if operator in ("StringLike", "ArnLike"):
        return any(_matches(w, found) for w in wanted)
    assert operator in ("StringNotEquals", "ArnNotEquals"), operator
    return found not in wanted


def applies(statement, action, resource, context):
    if not any(_matches(a, action) for a in _list(statement["Action"])):
        return False
    if "NotResource" in statement:
        if any(_matches(r, resource) for r in statement["NotResource"]):
            return False
    elif not any(_matches(r, resource) for r in _list(statement["Resource"])):
        return False
    return all(_condition(op, k, v, context) for op, keys in statement.get("Condition", {}).items() for k, v in keys.items())


def request(principal, **more):
    base = {"aws:SecureTransport": "true", "aws:ResourceAccount": ACCOUNT, "aws:PrincipalArn": principal}
    return base | {k.replace("__", ":").replace("_", "-"): v for k, v in more.items()}


def bucket_denies(stack, bucket, action, key, context):
    resource = f"{stack.arn(bucket)}/{key}" if key is not None else stack.arn(bucket)
    statements = stack[BUCKETS[bucket]]["PolicyDocument"]["Statement"]
    return any(s["Effect"] == "Deny" and applies(s, action, resource, context) for s in statements)


def role_statements(stack, function):
    role = stack[f"{function.title()}Role"]
    return [s for p in role["Policies"] for s in p["PolicyDocument"]["Statement"]]


def role_allows(stack, function, action, resource, context):
    judged = [s["Effect"] for s in role_statements(stack, function) if applies(s, action, resource, context)]
    return "Allow" in judged and "Deny" not in judged


def who_may(stack, action, bucket, key, **more):
    """The functions whose role and the bucket's policy together let them do it, with the condition header sent."""
    allowed = set()
    for function in FUNCTIONS:
        context = request(stack.arn(f"{function.title()}Role"), **more)
        if action == "s3:PutObject":
            context |= {"s3:if-none-match": "*", "s3:ObjectCreationOperation": "true"}
        resource = f"{stack.arn(bucket)}/{key}" if key is not None else stack.arn(bucket)
        if role_allows(stack, function, action, resource, context) and not bucket_denies(stack, bucket, action, key, context):
            allowed.add(function)
    return allowed


# ------------------------------------------------------------------------------------------------------------ checks

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@check
def functions_run_on_al2023(t):
    stack = Stack(t)
    common = stack.resolve(t["Globals"]["Function"])
    assert len(stack.of_type("AWS::Serverless::Function")) == len(FUNCTIONS)
    for f in FUNCTIONS:
        p = common | stack[f"{f.title()}Function"]
        assert (p["Runtime"], p["Handler"]) == ("provided.al2023", "bootstrap"), f
        assert p["Architectures"] == ["arm64"] and Stack(t, Architecture="x86_64").resolve(t["Globals"]["Function"])["Architectures"] == ["x86_64"]
        assert p["CodeUri"] == f"functions/{f}/" and (ROOT / p["CodeUri"] / "Cargo.toml").is_file()
        assert t["Resources"][f"{f.title()}Function"]["Metadata"]["BuildMethod"] == "rust-cargolambda"
        assert p["Timeout"] <= 900 and 128 <= p["MemorySize"] <= 10240


@check
def functions_know_their_queues_and_buckets(t):
    lake, log = ("SLUICEGATE_LAKE_BUCKET", "LakeBucket"), ("RUST_LOG", None)
    expected = {
        "land": {lake, log, ("SLUICEGATE_INBOX_BUCKET", "InboxBucket"), ("SLUICEGATE_STAGE_QUEUE_URL", "StageQueue"), ("SLUICEGATE_COPY_CONDITION", None)},
        "stage": {lake, log, ("SLUICEGATE_PROMOTE_QUEUE_URL", "PromoteQueue"),
                  ("SLUICEGATE_PROMOTE_REPLAY_QUEUE_URL", "PromoteReplayQueue"), ("SLUICEGATE_SCRATCH_MB", None)},
        "promote": {lake, log, ("SLUICEGATE_GLUE_DATABASE", None)},
        "replay": {lake, log, ("SLUICEGATE_STAGE_REPLAY_QUEUE_URL", "StageReplayQueue"), ("SLUICEGATE_REPLAY_QUEUE_URL", "ReplayQueue"),
                   ("SLUICEGATE_REPLAY_CONCURRENCY", None)},
    }
    for value in ("on", "off"):
        stack = Stack(t, CopyCondition=value)
        assert stack["LandFunction"]["Environment"]["Variables"]["SLUICEGATE_COPY_CONDITION"] == value
        for f, wanted in expected.items():
            env = stack[f"{f.title()}Function"]["Environment"]["Variables"]
            assert set(env) == {k for k, _ in wanted}, f
            for key, target in wanted:
                assert target is None or env[key] == stack.reference(target), (f, key)


@check
def every_function_logs_to_a_group_that_expires(t):
    stack = Stack(t)
    for f in FUNCTIONS:
        p, group = stack[f"{f.title()}Function"], stack[f"{f.title()}LogGroup"]
        assert p["LoggingConfig"]["LogGroup"] == f"ref:{f.title()}LogGroup"
        assert group["LogGroupName"] == f"/aws/lambda/{p['FunctionName']}", "sam logs looks there"
        assert group["RetentionInDays"] > 0


@check
def queues_are_standard_encrypted_and_have_a_dead_letter_queue(t):
    stack = Stack(t)
    queues = set(stack.of_type("AWS::SQS::Queue"))
    assert queues == set(WORK_QUEUES) | FAILURE_QUEUES
    for q in queues:
        assert not stack[q].get("FifoQueue") and stack[q]["SqsManagedSseEnabled"] is True, q
    for q, dlq in WORK_QUEUES.items():
        redrive, allow = stack[q]["RedrivePolicy"], stack[dlq]["RedriveAllowPolicy"]
        assert redrive["deadLetterTargetArn"] == stack.arn(dlq)
        assert redrive["maxReceiveCount"] >= 5
        assert allow == {"redrivePermission": "byQueue", "sourceQueueArns": [stack.arn(q)]}
        assert stack[dlq]["MessageRetentionPeriod"] == 14 * 86400
        # Age counts on across the move: what is spent in the queue is missing in the dead-letter queue.
        assert stack[q]["MessageRetentionPeriod"] <= 7 * 86400
        tries = redrive["maxReceiveCount"] * stack[q]["VisibilityTimeout"]
        assert tries < stack[q]["MessageRetentionPeriod"], "else it expires before it has had its tries"
    assert stack["LandFailedQueue"]["RedriveAllowPolicy"]["redrivePermission"] == "denyAll"


@check
def event_sources_answer_per_message(t):
    stack = Stack(t)
    sources = stack.events("SQS")
    assert sorted(stack.queue_of(p["Queue"]) for _, _, p in sources) == sorted(WORK_QUEUES), "each queue has one consumer"
    for function, name, p in sources:
        queue = stack[stack.queue_of(p["Queue"])]
        window = p.get("MaximumBatchingWindowInSeconds", 0)
        assert p["FunctionResponseTypes"] == ["ReportBatchItemFailures"], name
        assert queue["VisibilityTimeout"] >= 6 * stack[function]["Timeout"] + window, name
        assert 1 <= p["BatchSize"] <= 10_000 and (p["BatchSize"] <= 10 or window >= 1), name
        assert 2 <= p["ScalingConfig"]["MaximumConcurrency"] <= 1000, name


@check
def a_replay_leaves_fresh_files_their_places(t):
    for scale in t["Parameters"]["Scale"]["AllowedValues"]:
        stack = Stack(t, Scale=scale)
        limit = {stack.queue_of(p["Queue"]): p["ScalingConfig"]["MaximumConcurrency"] for _, _, p in stack.events("SQS")}
        assert 2 <= limit["StageReplayQueue"] < limit["StageQueue"] <= 1000, scale
        assert limit["PromoteQueue"] == limit["PromoteReplayQueue"] == 2, "more only race each other"
        told = stack["ReplayFunction"]["Environment"]["Variables"]["SLUICEGATE_REPLAY_CONCURRENCY"]
        assert int(told) == limit["StageReplayQueue"], "a plan's minutes are by it"


@check
def uploads_reach_land_and_failures_are_kept(t):
    stack = Stack(t)
    (function, _, p), = stack.events("S3")
    assert function == "LandFunction" and p["Bucket"] == stack.reference("InboxBucket")
    assert p["Events"] == "s3:ObjectCreated:*" and "Filter" not in p
    config = stack["LandFunction"]["EventInvokeConfig"]
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == stack.arn("LandFailedQueue")
    assert config["MaximumRetryAttempts"] == 2 and 60 <= config["MaximumEventAgeInSeconds"] <= 21600


@check
def buckets_are_private_versioned_and_outlive_the_stack(t):
    stack = Stack(t)
    for b in BUCKETS:
        p = stack[b]
        assert re.fullmatch(r"[a-z0-9-]{3,63}", p["BucketName"]) and p["BucketName"].endswith(ACCOUNT)
        assert p["VersioningConfiguration"]["Status"] == "Enabled"
        block = p["PublicAccessBlockConfiguration"]
        assert all(block[k] is True for k in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"))
        assert p["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        assert p["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        assert t["Resources"][b]["DeletionPolicy"] == t["Resources"][b]["UpdateReplacePolicy"] == "Retain"
        assert any("AbortIncompleteMultipartUpload" in r for r in p["LifecycleConfiguration"]["Rules"])
        assert stack[BUCKETS[b]]["Bucket"] == stack.reference(b)


@check
def plain_http_is_refused(t):
    stack = Stack(t)
    for b in BUCKETS:
        for action, key in (("s3:GetObject", RAW), ("s3:PutObject", RAW), ("s3:ListBucket", None)):
            context = request("arn:aws:iam::000000000000:role/admin", s3__if_none_match="*")
            assert not bucket_denies(stack, b, action, key, context)
            assert bucket_denies(stack, b, action, key, context | {"aws:SecureTransport": "false"}), (b, action)


@check
def nothing_in_the_lake_expires(t):
    for rule in Stack(t)["LakeBucket"]["LifecycleConfiguration"]["Rules"]:
        if rule["Status"] == "Enabled":
            assert set(rule) <= {"Id", "Status", "Prefix", "AbortIncompleteMultipartUpload"}, rule["Id"]


@check
def the_inbox_outlasts_every_retry(t):
    stack = Stack(t)
    expiry = [r for r in stack["InboxBucket"]["LifecycleConfiguration"]["Rules"] if "ExpirationInDays" in r]
    assert len(expiry) == 1 and expiry[0]["ExpirationInDays"] == stack.values["InboxRetentionDays"]
    assert expiry[0]["NoncurrentVersionExpiration"]["NoncurrentDays"] == stack.values["InboxRetentionDays"]
    assert t["Parameters"]["InboxRetentionDays"]["MinValue"] * 86400 > stack["LandFailedQueue"]["MessageRetentionPeriod"]


@check
def roles_are_one_each_and_written_out(t):
    stack = Stack(t)
    roles = [stack[f"{f.title()}Function"]["Role"] for f in FUNCTIONS]
    assert roles == [stack.arn(f"{f.title()}Role") for f in FUNCTIONS]
    assert len(stack.of_type("AWS::IAM::Role")) == len(FUNCTIONS)
    for f in FUNCTIONS:
        assert "Policies" not in stack[f"{f.title()}Function"], "SAM's templates reach too far"
        assert not stack[f"{f.title()}Role"].get("ManagedPolicyArns")
        for s in role_statements(stack, f):
            for action in _list(s["Action"]):
                assert re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", action), (f, action)
            for resource in _list(s["Resource"]):
                # One service, one bucket, queue or log group by name; a star only behind it.
                assert re.fullmatch(r"arn:aws:(s3:::[a-z0-9-]+(/.+)?|sqs:[a-z0-9-]+:\d+:[a-z-]+|logs:[a-z0-9-]+:\d+:log-group:[a-z/-]+:\*)", resource), (f, resource)
            if s["Effect"] == "Allow" and any(a.startswith("s3:") for a in _list(s["Action"])):
                assert s["Condition"]["StringEquals"] == {"aws:ResourceAccount": ACCOUNT}, (f, s["Sid"])


WRITERS = {
    RAW: {"land"}, CONTRACT: {"land"}, CONTRACT_POINTER: {"land"}, f"contracts/flights/refused/{RAW_ID}.json": {"land"},
    PROPOSAL: {"stage"}, REPORT: {"stage"}, HELD_POINTER: {"stage"}, QUARANTINE: {"stage"}, DATA: {"stage"},
    # People alone decide.
    DECISION: set(),
    CLOSING: set(),
    METADATA: {"promote"}, MANIFEST: {"promote"}, POINTER: {"promote"}, PLAN: {"replay"}, PROGRESS: {"replay"},
    # A star crosses slashes.
    "tables/flights/metadata/data/x": set(), "tables/flights/data/metadata/x": set(),
    "catalog/index.html": set(), "tables/flights/x": set(), "x": set(),
}
READERS = {
    RAW: {"land", "stage"}, CONTRACT: set(FUNCTIONS), CONTRACT_POINTER: set(FUNCTIONS),
    PROPOSAL: {"stage", "promote"}, DECISION: {"stage", "promote"}, CLOSING: {"stage", "promote"}, QUARANTINE: {"stage"}, DATA: {"stage", "promote"},
    METADATA: {"promote", "replay", "stage"}, POINTER: {"promote", "replay", "stage"},
    PLAN: {"replay"}, PROGRESS: {"replay"},
}


@check
def each_key_has_one_writer(t):
    for stack in (Stack(t), Stack(t, CopyCondition="off")):
        for key, functions in WRITERS.items():
            assert who_may(stack, "s3:PutObject", "LakeBucket", key) == functions, key
            assert who_may(stack, "s3:PutObject", "InboxBucket", key) == set(), key


@check
def each_key_has_its_readers(t):
    stack = Stack(t)
    for key, functions in READERS.items():
        assert who_may(stack, "s3:GetObject", "LakeBucket", key) == functions, key
    assert who_may(stack, "s3:GetObject", "LakeBucket", "catalog/index.html") == set()
    for action in ("s3:GetObject", "s3:GetObjectVersion"):
        assert who_may(stack, action, "InboxBucket", "flights/a b.csv") == {"land"}, action
    for key in (RAW, POINTER):
        assert who_may(stack, "s3:GetObject", "LakeBucket", key, aws__ResourceAccount="999999999999") == set()


@check
def no_function_deletes_or_administers(t):
    stack = Stack(t)
    for key in (*WRITERS, "flights/2013-01-01.csv"):
        for bucket in BUCKETS:
            for action in ("s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutObjectAcl", "s3:BypassGovernanceRetention"):
                assert who_may(stack, action, bucket, key) == set(), (action, key)
    for action in ("s3:PutBucketPolicy", "s3:PutLifecycleConfiguration", "s3:PutBucketVersioning", "s3:DeleteBucket", "iam:PassRole"):
        assert who_may(stack, action, "LakeBucket", None) == set(), action


@check
def an_absent_key_answers_404(t):
    """That needs ListBucket, asked without a prefix; a real listing is held to the function's prefixes."""
    stack = Stack(t)
    assert who_may(stack, "s3:ListBucket", "LakeBucket", None) == set(FUNCTIONS)
    assert who_may(stack, "s3:ListBucket", "InboxBucket", None) == {"land"}
    expected = {"raw/flights/": set(FUNCTIONS), "contracts/": {"land", "stage", "promote"}, "staging/flights/": {"stage", "promote"},
                "quarantine/flights/": {"stage"}, "tables/flights/metadata/": {"promote", "replay", "stage"}, "replays/flights/": {"replay"},
                "tables/flights/data/": {"stage", "promote"}, "catalog/": set()}
    for prefix, functions in expected.items():
        assert who_may(stack, "s3:ListBucket", "LakeBucket", None, s3__prefix=prefix) == functions, prefix


@check
def queues_have_one_sender_and_one_consumer(t):
    stack = Stack(t)
    senders = {"StageQueue": {"land"}, "StageReplayQueue": {"replay"}, "PromoteQueue": {"stage"}, "PromoteReplayQueue": {"stage"}, "LandFailedQueue": {"land"},
               "ReplayQueue": {"replay"}}
    consumers = {stack.queue_of(p["Queue"]): {function.removesuffix("Function").lower()} for function, _, p in stack.events("SQS")}
    for q in stack.of_type("AWS::SQS::Queue"):
        may = lambda action: {f for f in FUNCTIONS if role_allows(stack, f, action, stack.arn(q), request(""))}  # noqa: B023, E731
        assert may("sqs:SendMessage") == senders.get(q, set()), q
        for action in ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"):
            looks = {"replay"} if (q, action) == ("StageReplayQueue", "sqs:GetQueueAttributes") else set()
            assert may(action) == consumers.get(q, set()) | looks, (q, action)
        assert may("sqs:PurgeQueue") == may("sqs:SetQueueAttributes") == set()


ADMIN = f"arn:aws:iam::{ACCOUNT}:role/admin"


def put_denied(stack, key, principal=ADMIN, creation="true", **headers):
    context = request(principal, s3__ObjectCreationOperation=creation, **headers)
    return bucket_denies(stack, "LakeBucket", "s3:PutObject", key, context)


@check
def every_object_is_created_once(t):
    for stack in (Stack(t), Stack(t, CopyCondition="off")):
        for key in CREATED_ONCE:
            for principal in (ADMIN, stack.arn("LandRole"), stack.arn("StageRole")):
                assert put_denied(stack, key, principal), f"{key} without a condition"
                assert put_denied(stack, key, principal, s3__if_match="etag"), f"{key} swapped"
                assert not put_denied(stack, key, principal, s3__if_none_match="*"), key
                assert not put_denied(stack, key, principal, creation="false"), f"a part of {key}"


@check
def pointers_are_swapped_or_created(t):
    stack = Stack(t)
    for key in POINTERS:
        assert put_denied(stack, key), key
        assert not put_denied(stack, key, s3__if_match="etag"), key
        assert not put_denied(stack, key, s3__if_none_match="*"), key


@check
def a_copy_needs_its_condition_unless_switched_off(t):
    on, off, source = Stack(t), Stack(t, CopyCondition="off"), {"s3__x_amz_copy_source": "inbox/key"}
    land = on.arn("LandRole")
    for stack in (on, off):
        for principal in (ADMIN, land):
            assert not put_denied(stack, RAW, principal, **source, s3__if_none_match="*")
            assert put_denied(stack, METADATA, principal, **source)
        assert put_denied(stack, RAW, ADMIN, **source)
    assert put_denied(on, RAW, land, **source)
    assert not put_denied(off, RAW, land, **source)


@check
def raw_is_never_deleted(t):
    stack = Stack(t)
    for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
        for principal in (ADMIN, *(stack.arn(f"{f.title()}Role") for f in FUNCTIONS)):
            assert bucket_denies(stack, "LakeBucket", action, RAW, request(principal))
        assert not bucket_denies(stack, "LakeBucket", action, RAW, request(f"arn:aws:iam::{ACCOUNT}:root"))


@check
def failures_and_delays_raise_an_alarm(t):
    for topic in ("", f"arn:aws:sns:{REGION}:{ACCOUNT}:ops"):
        stack = Stack(t, AlarmTopicArn=topic)
        watched = {}
        for name in stack.of_type("AWS::CloudWatch::Alarm"):
            p = stack[name]
            assert p.get("AlarmActions", []) == ([topic] if topic else []), name
            if p["Namespace"] == "Sluicegate":
                continue
            assert (p["Namespace"], p["ComparisonOperator"]) == ("AWS/SQS", "GreaterThanThreshold"), name
            watched[p["MetricName"], p["Dimensions"][0]["Value"]] = p["Threshold"]
        for q in FAILURE_QUEUES:
            assert watched["ApproximateNumberOfMessagesVisible", stack[q]["QueueName"]] == 0, q
        for q in WORK_QUEUES:
            age = watched["ApproximateAgeOfOldestMessage", stack[q]["QueueName"]]
            assert stack[q]["VisibilityTimeout"] <= age <= stack[q]["MessageRetentionPeriod"] / 2, q


GLUE = f"arn:aws:glue:{REGION}:{ACCOUNT}"


@check
def a_catalog_is_told_by_promote_alone_and_only_where_there_is_one(t):
    actions = ("glue:GetTable", "glue:CreateTable", "glue:UpdateTable")
    way = [f"{GLUE}:catalog", f"{GLUE}:database/sales", f"{GLUE}:table/sales/orders"]
    others = [f"{GLUE}:database/hr", f"{GLUE}:table/hr/staff", f"{GLUE}:table/sales_hr/staff"]
    for database in ("", "sales"):
        stack = Stack(t, GlueDatabase=database)
        assert stack["PromoteFunction"]["Environment"]["Variables"]["SLUICEGATE_GLUE_DATABASE"] == database
        may = {
            (f, action, resource)
            for f in FUNCTIONS for action in (*actions, "glue:DeleteTable", "glue:DeleteDatabase") for resource in (*way, *others)
            if role_allows(stack, f, action, resource, request(""))
        }
        assert may == ({("promote", action, resource) for action in actions for resource in way} if database else set())
    alarm = Stack(t)["CatalogAlarm"]
    assert t["Resources"]["CatalogAlarm"]["Condition"] == "HasCatalog"
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("Sluicegate", "CatalogFailures", 0)
    assert alarm["Dimensions"] == [{"Name": "Function", "Value": "promote"}]


@check
def what_waits_for_a_person_raises_an_alarm(t):
    for name, metric, function in (
        ("HeldAlarm", "FilesHeld", "promote"),
        ("RejectedAlarm", "FilesRejected", "promote"),
        ("ContractRefusedAlarm", "ContractsRefused", "land"),
        ("InvariantAlarm", "InvariantViolations", "promote"),
    ):
        alarm = Stack(t)[name]
        assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("Sluicegate", metric, 0), name
        assert (alarm["Dimensions"], alarm["Statistic"]) == ([{"Name": "Function", "Value": function}], "Sum"), name
        assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("GreaterThanThreshold", "notBreaching"), name


@check
def what_keeps_raw_outlives_the_stack(t):
    policy = t["Resources"]["LakeBucketPolicy"]
    assert policy["DeletionPolicy"] == policy["UpdateReplacePolicy"] == "Retain"


@check
def a_dataset_over_its_budget_raises_an_alarm(t):
    alarm = Stack(t)["BudgetAlarm"]
    assert (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("Sluicegate", "OverBudget", 0)
    assert (alarm["Dimensions"], alarm["Statistic"]) == ([{"Name": "Function", "Value": "promote"}], "Maximum")
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == ("GreaterThanThreshold", "notBreaching")


@check
def outputs_name_everything(t):
    expected = {"InboxBucketName": "InboxBucket", "LakeBucketName": "LakeBucket"}
    expected |= {f"{q}Url": q for q in (*WORK_QUEUES, *FAILURE_QUEUES)} | {f"{f.title()}FunctionName": f"{f.title()}Function" for f in FUNCTIONS}
    assert {n: o["Value"] for n, o in t["Outputs"].items()} == {n: {"Ref": r} for n, r in expected.items()}


@check
def parameters_are_explained(t):
    assert all(p.get("Description") and "Default" in p for p in t["Parameters"].values())


@pytest.mark.parametrize("holds", CHECKS, ids=lambda c: c.__name__)
def test_template(holds):
    holds(TEMPLATE)


# --------------------------------------------------------------------------------------------------------- mutations


def at(t, path):
    node = t
    for step in path.split("/"):
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node


def change(path, value):
    def mutate(t):
        parent, _, last = path.rpartition("/")
        node = at(t, parent)
        node[int(last) if isinstance(node, list) else last] = value
    return mutate


def remove(path):
    def mutate(t):
        parent, _, last = path.rpartition("/")
        node = at(t, parent)
        del node[int(last) if isinstance(node, list) else last]
    return mutate


def drop_deny(sid):
    def mutate(t):
        statements = at(t, "Resources/LakeBucketPolicy/Properties/PolicyDocument/Statement")
        statements[:] = [s for s in statements if sid not in json.dumps(s)]
    return mutate


def deny_condition(sid, operator, key):
    def mutate(t):
        def walk(node):
            if isinstance(node, dict):
                if node.get("Sid") == sid:
                    del node["Condition"][operator][key]
                for v in node.values():
                    walk(v)
            elif isinstance(node, list):
                for v in node:
                    walk(v)
        walk(at(t, "Resources/LakeBucketPolicy"))
    return mutate


def grant(function, action, resource):
    def mutate(t):
        at(t, f"Resources/{function}Role/Properties/Policies/0/PolicyDocument/Statement").append(
            {"Sid": "More", "Effect": "Allow", "Action": action, "Resource": resource, "Condition": {"StringEquals": {"aws:ResourceAccount": ACCOUNT}}})
    return mutate


def revoke(function, sid):
    def mutate(t):
        statements = at(t, f"Resources/{function}Role/Properties/Policies/0/PolicyDocument/Statement")
        kept = [s for s in statements if s.get("Sid") != sid]
        assert len(kept) < len(statements), sid
        statements[:] = kept
    return mutate


LAKE = f"arn:aws:s3:::{STACK}-lake-{ACCOUNT}"
R, EVENT = "Resources", "Resources/{}Function/Properties/Events/{}/Properties/{}"
MUTATIONS = [
    (functions_run_on_al2023, change("Globals/Function/Runtime", "provided.al2")),
    (functions_run_on_al2023, change("Globals/Function/Architectures", ["arm64"])),
    (functions_run_on_al2023, change("Resources/LandFunction/Properties/CodeUri", ".")),
    (functions_know_their_queues_and_buckets, change("Resources/StageFunction/Properties/Environment/Variables/SLUICEGATE_PROMOTE_QUEUE_URL", {"Ref": "StageQueue"})),
    (functions_know_their_queues_and_buckets, remove("Resources/LandFunction/Properties/Environment/Variables/SLUICEGATE_COPY_CONDITION")),
    (functions_know_their_queues_and_buckets, change("Resources/LandFunction/Properties/Environment/Variables/SLUICEGATE_COPY_CONDITION", "on")),
    (every_function_logs_to_a_group_that_expires, remove("Resources/StageLogGroup/Properties/RetentionInDays")),
    (every_function_logs_to_a_group_that_expires, change("Resources/StageFunction/Properties/LoggingConfig/LogGroup", {"Ref": "LandLogGroup"})),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, remove("Resources/PromoteQueue/Properties/RedrivePolicy")),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/StageQueue/Properties/RedrivePolicy/maxReceiveCount", 4)),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/StageQueue/Properties/RedrivePolicy/deadLetterTargetArn", {"Fn::GetAtt": ["PromoteDlq", "Arn"]})),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/ReplayDlq/Properties/SqsManagedSseEnabled", False)),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/ReplayDlq/Properties/MessageRetentionPeriod", 345600)),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/StageQueue/Properties/MessageRetentionPeriod", 20000)),
    (queues_are_standard_encrypted_and_have_a_dead_letter_queue, change("Resources/StageQueue/Properties/FifoQueue", True)),
    (event_sources_answer_per_message, change("Resources/StageQueue/Properties/VisibilityTimeout", 5399)),
    (event_sources_answer_per_message, change("Resources/PromoteQueue/Properties/VisibilityTimeout", 720)),
    (event_sources_answer_per_message, change("Resources/ReplayFunction/Properties/Timeout", 301)),
    (event_sources_answer_per_message, remove(EVENT.format("Stage", "Fresh", "FunctionResponseTypes"))),
    (event_sources_answer_per_message, remove(EVENT.format("Promote", "Staged", "MaximumBatchingWindowInSeconds"))),
    (event_sources_answer_per_message, remove(EVENT.format("Replay", "Requested", "ScalingConfig"))),
    (event_sources_answer_per_message, change(EVENT.format("Stage", "Replayed", "Queue"), {"Fn::GetAtt": ["StageQueue", "Arn"]})),
    (event_sources_answer_per_message, change(EVENT.format("Promote", "Staged", "ScalingConfig"), {"MaximumConcurrency": 1})),
    (a_replay_leaves_fresh_files_their_places, change("Mappings/StageConcurrency/small/Replayed", 1)),
    (a_replay_leaves_fresh_files_their_places, change("Mappings/StageConcurrency/large/Replayed", 200)),
    (a_replay_leaves_fresh_files_their_places, change(EVENT.format("Promote", "Staged", "ScalingConfig"), {"MaximumConcurrency": 10})),
    (uploads_reach_land_and_failures_are_kept, remove("Resources/LandFunction/Properties/EventInvokeConfig/DestinationConfig")),
    (uploads_reach_land_and_failures_are_kept, change("Resources/LandFunction/Properties/EventInvokeConfig/DestinationConfig/OnFailure/Destination", {"Fn::GetAtt": ["StageDlq", "Arn"]})),
    (uploads_reach_land_and_failures_are_kept, change(EVENT.format("Land", "Upload", "Events"), "s3:ObjectCreated:Put")),
    (buckets_are_private_versioned_and_outlive_the_stack, change("Resources/LakeBucket/Properties/VersioningConfiguration/Status", "Suspended")),
    (buckets_are_private_versioned_and_outlive_the_stack, change("Resources/InboxBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy", False)),
    (buckets_are_private_versioned_and_outlive_the_stack, remove("Resources/LakeBucket/DeletionPolicy")),
    (buckets_are_private_versioned_and_outlive_the_stack, change("Resources/LakeBucketPolicy/Properties/Bucket", {"Ref": "InboxBucket"})),
    (plain_http_is_refused, drop_deny("DenyInsecureTransport")),
    (plain_http_is_refused, change("Resources/InboxBucketPolicy/Properties/PolicyDocument/Statement/0/Action", "s3:PutObject")),
    (nothing_in_the_lake_expires, lambda t: at(t, "Resources/LakeBucket/Properties/LifecycleConfiguration/Rules").append({"Id": "x", "Status": "Enabled", "Prefix": "tables/", "ExpirationInDays": 900})),
    (nothing_in_the_lake_expires, lambda t: at(t, "Resources/LakeBucket/Properties/LifecycleConfiguration/Rules").append({"Id": "x", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 90}})),
    (the_inbox_outlasts_every_retry, change("Parameters/InboxRetentionDays/MinValue", 14)),
    (the_inbox_outlasts_every_retry, remove("Resources/InboxBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays")),
    (roles_are_one_each_and_written_out, change("Resources/ReplayFunction/Properties/Role", {"Fn::GetAtt": ["LandRole", "Arn"]})),
    (roles_are_one_each_and_written_out, grant("Promote", "s3:Get*", f"{LAKE}/raw/*")),
    (roles_are_one_each_and_written_out, grant("Promote", "s3:GetObject", "*")),
    (roles_are_one_each_and_written_out, change("Resources/StageFunction/Properties/Policies", ["AmazonSQSFullAccess"])),
    (roles_are_one_each_and_written_out, remove("Resources/StageRole/Properties/Policies/0/PolicyDocument/Statement/0/Condition")),
    (each_key_has_one_writer, grant("Promote", "s3:PutObject", f"{LAKE}/raw/*")),
    (each_key_has_one_writer, grant("Replay", "s3:PutObject", f"{LAKE}/*/current.json")),
    (each_key_has_one_writer, revoke("Stage", "NeverPublish")),
    (each_key_has_one_writer, revoke("Promote", "NeverRewriteData")),
    (each_key_has_one_writer, revoke("Promote", "Publish")),
    (each_key_has_its_readers, grant("Replay", "s3:GetObject", f"{LAKE}/quarantine/*")),
    (each_key_has_its_readers, revoke("Land", "ReadUpload")),
    (no_function_deletes_or_administers, grant("Promote", "s3:DeleteObject", f"{LAKE}/tables/*")),
    (no_function_deletes_or_administers, grant("Land", "s3:DeleteObjectVersion", f"arn:aws:s3:::{STACK}-inbox-{ACCOUNT}/*")),
    (no_function_deletes_or_administers, grant("Land", "s3:PutBucketPolicy", LAKE)),
    (an_absent_key_answers_404, revoke("Promote", "ListLake")),
    (an_absent_key_answers_404, revoke("Land", "ListInbox")),
    (an_absent_key_answers_404, grant("Replay", "s3:ListBucket", LAKE)),
    (queues_have_one_sender_and_one_consumer, grant("Replay", "sqs:SendMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-promote")),
    (queues_have_one_sender_and_one_consumer, revoke("Promote", "Consume")),
    (queues_have_one_sender_and_one_consumer, revoke("Land", "SendToLandFailedQueue")),
    (every_object_is_created_once, drop_deny("ObjectsAreCreatedOnce")),
    (every_object_is_created_once, drop_deny("RawIsUploadedOnce")),
    (queues_have_one_sender_and_one_consumer, revoke("Replay", "GoOn")),
    (each_key_has_one_writer, revoke("Replay", "Plan")),
    (every_object_is_created_once, deny_condition("ObjectsAreCreatedOnce", "Bool", "s3:ObjectCreationOperation")),
    (every_object_is_created_once, lambda t: at(t, "Resources/LakeBucketPolicy/Properties/PolicyDocument/Statement/1/NotResource").append(f"{LAKE}/tables/*")),
    (pointers_are_swapped_or_created, drop_deny("PointersAreSwapped")),
    (pointers_are_swapped_or_created, deny_condition("PointersAreSwapped", "Null", "s3:if-match")),
    (pointers_are_swapped_or_created, lambda t: at(t, "Resources/LakeBucketPolicy/Properties/PolicyDocument/Statement/1/NotResource").pop(0)),
    (a_copy_needs_its_condition_unless_switched_off, drop_deny("RawIsCopiedOnce")),
    (a_copy_needs_its_condition_unless_switched_off, deny_condition("RawIsCopiedOnceExceptByLand", "ArnNotEquals", "aws:PrincipalArn")),
    (a_copy_needs_its_condition_unless_switched_off, deny_condition("RawIsUploadedOnce", "Null", "s3:x-amz-copy-source")),
    (raw_is_never_deleted, drop_deny("RawIsNeverDeleted")),
    (raw_is_never_deleted, deny_condition("RawIsNeverDeleted", "ArnNotEquals", "aws:PrincipalArn")),
    (failures_and_delays_raise_an_alarm, remove("Resources/PromoteDlqAlarm")),
    (failures_and_delays_raise_an_alarm, change("Resources/StageAgeAlarm/Properties/Threshold", 60)),
    (failures_and_delays_raise_an_alarm, remove("Resources/LandFailedAlarm/Properties/AlarmActions")),
    (a_catalog_is_told_by_promote_alone_and_only_where_there_is_one, grant("Promote", "glue:UpdateTable", f"{GLUE}:table/*")),
    (a_catalog_is_told_by_promote_alone_and_only_where_there_is_one, grant("Promote", "glue:DeleteTable", f"{GLUE}:table/sales/*")),
    (a_catalog_is_told_by_promote_alone_and_only_where_there_is_one, grant("Stage", "glue:GetTable", f"{GLUE}:catalog")),
    (a_catalog_is_told_by_promote_alone_and_only_where_there_is_one, change("Conditions/HasCatalog", {"Fn::Equals": ["a", "b"]})),
    (a_catalog_is_told_by_promote_alone_and_only_where_there_is_one, change("Resources/CatalogAlarm/Properties/Namespace", "AWS/SQS")),
    (what_waits_for_a_person_raises_an_alarm, remove("Resources/HeldAlarm")),
    (what_waits_for_a_person_raises_an_alarm, change("Resources/ContractRefusedAlarm/Properties/MetricName", "ContractsLanded")),
    (what_waits_for_a_person_raises_an_alarm, change("Resources/InvariantAlarm/Properties/Threshold", 1)),
    (what_keeps_raw_outlives_the_stack, remove("Resources/LakeBucketPolicy/DeletionPolicy")),
    (a_dataset_over_its_budget_raises_an_alarm, remove("Resources/BudgetAlarm")),
    (a_dataset_over_its_budget_raises_an_alarm, change("Resources/BudgetAlarm/Properties/Threshold", 1)),
    (outputs_name_everything, remove("Outputs/StageDlqUrl")),
    (outputs_name_everything, change("Outputs/LakeBucketName/Value", {"Ref": "InboxBucket"})),
    (parameters_are_explained, remove("Parameters/CopyCondition/Description")),
]


@pytest.mark.parametrize("holds, mutate", MUTATIONS, ids=[f"{c.__name__}-{i}" for i, (c, _) in enumerate(MUTATIONS)])
def test_check_catches(holds, mutate):
    broken = copy.deepcopy(TEMPLATE)
    mutate(broken)
    assert broken != TEMPLATE, "the mutation changed nothing"
    with pytest.raises((AssertionError, KeyError, StopIteration)):
        holds(broken)


def test_every_check_can_fail():
    assert {c for c, _ in MUTATIONS} == set(CHECKS)


# ------------------------------------------------------------------------------------------------------------ events

EVENTS = sorted(p.relative_to(ROOT / "events") for p in (ROOT / "events").rglob("*.json"))


@pytest.mark.parametrize("path", EVENTS, ids=str)
def test_events_speak_of_this_stack(path):
    stack = Stack(TEMPLATE)
    event = json.loads((ROOT / "events" / path).read_text())
    queues = {stack.arn(q): q for q in WORK_QUEUES}
    for record in event.get("Records", []):
        if record.get("eventSource") == "aws:sqs":
            assert record["eventSourceARN"] in queues and record["awsRegion"] == REGION
            assert record["attributes"]["MessageGroupId"] and isinstance(record["body"], str)
        else:
            assert record["eventSource"] == "aws:s3"
            assert record["s3"]["bucket"]["name"] == stack.reference("InboxBucket")
            assert record["s3"]["bucket"]["arn"] == stack.arn("InboxBucket")
            assert fnmatch.fnmatchcase(record["eventName"], "ObjectCreated:*")
    ids = [r["messageId"] for r in event.get("Records", []) if "messageId" in r]
    assert len(ids) == len(set(ids))


def test_price_list_is_sourced():
    prices = json.loads((ROOT / "infra/prices.json").read_text())
    assert prices["version"] and prices["currency"] == "USD"
    for region, services in prices["regions"].items():
        for service, rows in services.items():
            for name, row in rows.items():
                assert set(row) >= {"unit", "price", "source", "as_of"}, (region, service, name)
                assert float(row["price"]) >= 0 and isinstance(row["price"], str), "decimal text: a float would round"
                assert row["source"].startswith("https://") and re.fullmatch(r"\d{4}-\d\d-\d\d", row["as_of"])
