#!/usr/bin/env bash
# Runs land, stage, promote and replay under `sam local invoke`, each in a container, against an emulator, and follows one
# file through them: what one function sends is the next one's event. Proves the template's wiring, the bootstrap and the
# Runtime API; not Amazon Linux's libraries, since the base image is a stand-in made of busybox and this machine's glibc
# (no registry is asked). Exits 0 only if every answer and every object is as it should be.
#
# Needs Linux, root (it starts a Docker engine of its own, on a private socket, that touches neither iptables nor
# forwarding) and, in .local/, the environments `make sam-local` sets up. Installs docker.io and busybox-static with apt if
# they are missing. Leaves nothing running.
#
#   SAM, MINISTACK, PYTHON   other programs than those in .local/
#   BOOTSTRAPS               folder with the binaries land, stage, promote, replay; else cargo builds them
set -euo pipefail
cd "$(dirname "$0")/.."

SAM=${SAM:-$PWD/.local/sam/bin/sam}
MINISTACK=${MINISTACK:-$PWD/.local/emulator/bin/ministack}
PYTHON=${PYTHON:-$PWD/.local/emulator/bin/python}
IMAGE=public.ecr.aws/lambda/provided
BRIDGE=172.17.0.1
PIDS=()

say() { printf '%s\n' "sam-local: $*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(uname -s)" = Linux ] || fail 'needs Linux.'
[ "$(id -u)" = 0 ] || fail 'needs root, for a Docker engine of its own: sudo make sam-local'
case $(uname -m) in x86_64) ARCH=x86_64 ;; aarch64) ARCH=arm64 ;; *) fail "no Lambda runs on $(uname -m)." ;; esac
for program in "$SAM" "$MINISTACK" "$PYTHON"; do [ -x "$program" ] || fail "$program is missing: run make sam-local"; done
! ip link show docker0 >/dev/null 2>&1 || fail 'a Docker engine uses docker0 already; stop it, or use another machine.'

# Short, because a socket's path may have 107 characters; away from the project, because an engine leaves mounts.
STATE=$(mktemp -d "${TMPDIR:-/tmp}/sam-local.XXXXXX")
LOGS=$PWD/.local/logs/sam-local
mkdir -p "$LOGS"

cleanup() {
  local status=$?
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; done
  ip link delete docker0 2>/dev/null
  rm -rf "$STATE"
  [ $status = 0 ] || say "failed; logs in $LOGS"
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

await() { # seconds, pid, command…: until it succeeds, unless the process is gone
  local tries=$(($1 * 5)) pid=$2
  shift 2
  while [ $((tries -= 1)) -gt 0 ]; do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.2
  done
  return 1
}

# ---------------------------------------------------------------------------------------------------------- functions

if [ -z "${BOOTSTRAPS:-}" ]; then
  say 'building the functions for this machine'
  cargo build --locked -p sluicegate-land -p sluicegate-stage -p sluicegate-promote -p sluicegate-replay
  BOOTSTRAPS=${CARGO_TARGET_DIR:-target}/debug
fi
for name in land stage promote replay; do
  install -D -m 755 "$BOOTSTRAPS/$name" "$STATE/app/functions/$name/bootstrap"
done

# ------------------------------------------------------------------------------------------------------------- engine

if ! command -v dockerd >/dev/null || ! command -v busybox >/dev/null; then
  say 'installing docker.io and busybox-static'
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker.io busybox-static; } \
    >"$LOGS/apt.log" 2>&1 || fail "apt could not install docker.io and busybox-static; see $LOGS/apt.log"
  ! ip link show docker0 >/dev/null 2>&1 || fail 'the installation has started an engine: systemctl stop docker, and again.'
fi
export DOCKER_HOST=unix://$STATE/docker.sock
dockerd --data-root "$STATE/data" --exec-root "$STATE/exec" --pidfile "$STATE/pid" --host "$DOCKER_HOST" --bip "$BRIDGE/16" \
  --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false >"$LOGS/dockerd.log" 2>&1 &
PIDS+=($!)
await 30 $! docker version || fail 'the Docker engine did not start'

# Under the very name SAM looks for; SAM puts its runtime interface emulator on top, which starts /lambda-entrypoint.sh.
R=$STATE/image
mkdir -p "$R"/{bin,tmp,proc,sys,dev,opt,etc/ssl/certs,var/task,var/runtime}
chmod 1777 "$R/tmp"
cp "$(command -v busybox)" "$R/bin/busybox"
for applet in sh mv cp rm chmod ls cat; do ln -s busybox "$R/bin/$applet"; done
# What the bootstraps are linked with, and what glibc loads by itself to look up a name.
for bootstrap in "$STATE"/app/functions/*/bootstrap; do ldd "$bootstrap"; done 2>/dev/null | grep -o '/[^ ]*' | sort -u >"$STATE/libraries" || true
ls /lib/*-linux-gnu/libnss_{dns,files}.so.2 /lib/*-linux-gnu/libresolv.so.2 >>"$STATE/libraries" 2>/dev/null || true
while read -r library; do install -D -m 755 "$library" "$R$library"; done <"$STATE/libraries"
[ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$R/etc/ssl/certs/"
echo 'root:x:0:0:root:/:/bin/sh' >"$R/etc/passwd"
echo 'hosts: files dns' >"$R/etc/nsswitch.conf"
printf '#!/bin/sh\nexec /var/task/bootstrap\n' >"$R/lambda-entrypoint.sh"
chmod 755 "$R/lambda-entrypoint.sh"
tar -C "$R" -c . | docker import --change 'WORKDIR /var/task' --change 'ENTRYPOINT ["/lambda-entrypoint.sh"]' \
  --change 'ENV LAMBDA_TASK_ROOT=/var/task PATH=/usr/bin:/bin' - "$IMAGE:al2023-$ARCH" >"$LOGS/image.log"

# ----------------------------------------------------------------------------------------------------------- emulator

# On the bridge's address only: the containers reach it there, and nobody else does.
PORT=$("$PYTHON" -c "import socket; s = socket.socket(); s.bind(('$BRIDGE', 0)); print(s.getsockname()[1])")
ENDPOINT=http://$BRIDGE:$PORT
env -i PATH="$PATH" HOME="$STATE" TMPDIR="$STATE" BIND_HOST=$BRIDGE GATEWAY_PORT="$PORT" AWS_ENDPOINT_URL="$ENDPOINT" IOT_MTLS_ENABLED=0 \
  "$MINISTACK" >"$LOGS/emulator.log" 2>&1 &
PIDS+=($!)
health() { "$PYTHON" -c "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('$ENDPOINT/_ministack/health', timeout=2)"; }
await 30 $! health || fail 'the emulator did not start'

# ---------------------------------------------------------------------------------------------------------- one file

export SAM ENDPOINT ARCH STATE LOGS
export SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
export NO_PROXY="$BRIDGE" no_proxy="$BRIDGE" PYTHONDONTWRITEBYTECODE=1
unset AWS_PROFILE AWS_SESSION_TOKEN
"$PYTHON" - <<'PYTHON'
import json, os, pathlib, subprocess, sys, time, urllib.parse

import boto3
from botocore.config import Config

STATE, LOGS, ENDPOINT = pathlib.Path(os.environ["STATE"]), pathlib.Path(os.environ["LOGS"]), os.environ["ENDPOINT"]
INBOX, LAKE = "sluicegate-inbox-000000000000", "sluicegate-lake-000000000000"
QUEUES = ("stage", "stage-replay", "promote", "promote-replay", "replay")
NO_FAILURES = {"batchItemFailures": []}


def client(service):
    return boto3.client(service, endpoint_url=ENDPOINT, config=Config(s3={"addressing_style": "path"}, proxies={}))


s3, sqs = client("s3"), client("sqs")


def expect(holds, what):
    if not holds:
        sys.exit(f"sam-local: {what}")


def template():
    """The project's template, with the endpoint as a variable: SAM passes a function only those the template names."""
    text = pathlib.Path("template.yaml").read_text()
    globals_ = "    Handler: bootstrap\n"
    expect(text.count(globals_) == 1, "template.yaml has no single Globals handler to put the endpoint beside")
    text = text.replace(globals_, f"{globals_}    Environment: {{Variables: {{AWS_ENDPOINT_URL: '{ENDPOINT}'}}}}\n")
    (STATE / "app/template.yaml").write_text(text)


def invoke(function, event):
    """The function's answer. SAM ends with 0 whatever the function did, and can lose an answer on a busy machine: then
    once more, which is harmless, since every function may be called twice."""
    (STATE / "event.json").write_text(json.dumps(event))
    command = [os.environ["SAM"], "local", "invoke", f"{function}Function", "--template", str(STATE / "app/template.yaml"),
               "--event", str(STATE / "event.json"), "--env-vars", str(STATE / "env.json"), "--skip-pull-image",
               "--region", "us-east-1", "--parameter-overrides", f"Architecture={os.environ['ARCH']}", "CopyCondition=off"]
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=STATE / "app")
        with open(LOGS / f"{function.lower()}.log", "a") as log:
            log.write(f"--- event\n{json.dumps(event)}\n--- sam, exit {done.returncode}\n{done.stderr}\n--- answer\n{done.stdout}\n")
        expect(done.returncode == 0, f"sam local invoke {function}Function failed:\n{done.stderr}")
        if done.stdout.strip():
            answer = json.loads(done.stdout.strip().splitlines()[-1])
            break
    else:
        sys.exit(f"sam-local: {function} gave no answer:\n{done.stderr}")
    failed = isinstance(answer, dict) and ("errorType" in answer or "errorMessage" in answer)
    expect(not failed, f"{function} failed: {answer}\n{done.stderr}")
    print(f"{function.lower():8} {time.monotonic() - began:5.1f} s  {json.dumps(answer)}", flush=True)
    return answer


def upload(key, body):
    """Puts an object into the inbox and gives the event S3 would send."""
    put = s3.put_object(Bucket=INBOX, Key=key, Body=body)
    record = json.loads(pathlib.Path("events/land.json").read_text())["Records"][0]
    record["s3"]["object"] |= {"key": urllib.parse.quote_plus(key, safe="/"), "size": len(body), "eTag": put["ETag"].strip('"'),
                               "versionId": put["VersionId"]}
    return {"Records": [record]}


def receive(queue):
    """The one message that waits in a queue, as an event source mapping would hand it over."""
    url = sqs.get_queue_url(QueueName=f"sluicegate-{queue}")["QueueUrl"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20, MessageSystemAttributeNames=["All"]).get("Messages", [])
    expect(len(messages) == 1, f"{len(messages)} messages in the {queue} queue instead of one")
    m = messages[0]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])
    return {"Records": [{
        "messageId": m["MessageId"], "receiptHandle": m["ReceiptHandle"], "body": m["Body"], "md5OfBody": m["MD5OfBody"],
        "attributes": m.get("Attributes", {}), "messageAttributes": {}, "eventSource": "aws:sqs", "awsRegion": "us-east-1",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:sluicegate-{queue}"}]}


def keys(prefix):
    return [o["Key"] for o in s3.list_objects_v2(Bucket=LAKE, Prefix=prefix).get("Contents", [])]


for bucket in (INBOX, LAKE):
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
url = {q: sqs.create_queue(QueueName=f"sluicegate-{q}")["QueueUrl"] for q in QUEUES}
lake = {"SLUICEGATE_LAKE_BUCKET": LAKE, "AWS_ENDPOINT_URL": ENDPOINT}
(STATE / "env.json").write_text(json.dumps({
    "LandFunction": lake | {"SLUICEGATE_INBOX_BUCKET": INBOX, "SLUICEGATE_STAGE_QUEUE_URL": url["stage"], "SLUICEGATE_COPY_CONDITION": "off"},
    "StageFunction": lake | {"SLUICEGATE_PROMOTE_QUEUE_URL": url["promote"], "SLUICEGATE_PROMOTE_REPLAY_QUEUE_URL": url["promote-replay"]},
    "PromoteFunction": lake,
    "ReplayFunction": lake | {"SLUICEGATE_STAGE_REPLAY_QUEUE_URL": url["stage-replay"],
                              "SLUICEGATE_REPLAY_QUEUE_URL": url["replay"], "SLUICEGATE_REPLAY_CONCURRENCY": "2"},
}))
template()
for log in LOGS.glob("*.log"):
    if log.stem in ("land", "stage", "promote", "replay"):
        log.unlink()

invoke("Land", upload("_contracts/flights.json", pathlib.Path("examples/flights/contract.json").read_bytes()))
expect("contracts/flights/current.json" in keys("contracts/flights/"), "land did not publish the contract")

invoke("Land", upload("flights/2013-01-01.csv", pathlib.Path("examples/flights/2013-01-01.csv").read_bytes()))
expect(len(keys("raw/flights/2013-01-01.csv/")) == 1, "land did not keep the file")
staged = receive("stage")
raw_id = json.loads(staged["Records"][0]["body"])["raw_id"]
expect(keys("raw/flights/2013-01-01.csv/") == [f"raw/flights/2013-01-01.csv/{raw_id}"], "land sent another raw id than it kept")

expect(invoke("Stage", staged) == NO_FAILURES, "stage failed the message")
expect(any(k.endswith("/proposal.json") for k in keys(f"staging/flights/{raw_id}/")), "stage wrote no proposal")
expect(keys("tables/flights/data/"), "stage wrote no data file")

expect(not keys("tables/flights/metadata/"), "something was published before promote ran")
expect(invoke("Promote", receive("promote")) == NO_FAILURES, "promote failed the message")
expect("tables/flights/metadata/version-hint.text" in keys("tables/flights/metadata/"), "promote did not publish")

example = lambda name: json.loads(pathlib.Path(f"events/{name}.json").read_text())

plan = invoke("Replay", example("replay-plan"))
expect((plan["dataset"], plan["objects"]) == ("flights", 1) and plan["nano_usd"] > 0, f"replay planned {plan}")
expect(f"replays/flights/{plan['plan']}/plan.json" in keys("replays/flights/"), "the plan is not kept")

record = example("replay-sqs")
record["Records"][0]["body"] = json.dumps({"dataset": "flights", "run": plan["plan"], "budget_nano_usd": 2 * plan["nano_usd"]})
expect(invoke("Replay", record) == NO_FAILURES, "replay failed its message")
replayed = json.loads(receive("stage-replay")["Records"][0]["body"])
expect((replayed["raw_id"], replayed["reason"], replayed["plan"]) == (raw_id, "replay", plan["plan"]), f"replay sent {replayed}")
ahead = json.loads(receive("replay")["Records"][0]["body"])
expect((ahead["run"], ahead["hop"]) == (plan["plan"], 0), f"replay told itself {ahead}")

answer = invoke("Replay", {"dataset": "flights", "raw_ids": [raw_id]})
expect((answer["dataset"], answer["sent"]) == ("flights", 1) and answer["epoch"] >= 1, f"replay answered {answer}")
print("land, stage, promote and replay answered as they should.")
PYTHON
