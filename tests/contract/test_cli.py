"""`sluicegate check` and `sluicegate contract lint`: what they print, and what they exit with, of good, bad and hostile files."""

from __future__ import annotations

import copy
import gzip
import json
import resource
from pathlib import Path
from xml.etree import ElementTree

import pytest
import zstandard
from conftest import DATA, EXAMPLES, LIMITS, Done, contract, path_of

from local import hostile

BAD, NOT_CSV = EXAMPLES / "flights/bad/2013-01-20.csv", EXAMPLES / "flights/bad/not-a-csv.csv"
GOOD = DATA["flights"][0]


@pytest.fixture
def strict(tmp_path: Path) -> Path:
    """The contract of flights, which bears no bad row."""
    strict = contract("flights")
    strict["x-sluicegate"]["bad_rows"] = {"max_fraction": 0}
    path = tmp_path / "strict.json"
    path.write_text(json.dumps(strict))
    return path


def test_exit_codes(run, strict: Path, tmp_path: Path) -> None:
    flights = path_of("flights")
    for code, given, files in (
        (0, flights, [GOOD]),
        (0, flights, [BAD]),
        (1, strict, [BAD]),
        (2, strict, [NOT_CSV]),
        (1, strict, [GOOD, BAD, GOOD]),
        (2, strict, [NOT_CSV, BAD, GOOD]),
        (2, flights, [tmp_path / "there is none.csv"]),
        (2, flights, [tmp_path]),
        (2, tmp_path / "there is none.json", [GOOD]),
        (2, NOT_CSV, [GOOD]),
        (2, flights, []),
        (2, flights, ["--json", "--junit", GOOD]),
    ):
        done = run("check", "--contract", given, *files)
        assert done.returncode == code, (given, files, done.stdout, done.stderr)
        assert "panicked" not in done.stderr
    assert "there is none.csv" in run("check", "--contract", flights, tmp_path / "there is none.csv").stderr


def packed(body: bytes) -> dict[str, bytes]:
    # A stream of zstd as a pipe writes it: no size in front.
    streamed = zstandard.ZstdCompressor().compressobj()
    return {
        "plain": body,
        "gzip": gzip.compress(body),
        "gzip in two members": gzip.compress(body[:5000]) + gzip.compress(body[5000:]),
        "zstd": zstandard.compress(body),
        "zstd stream": streamed.compress(body) + streamed.flush(),
    }


def test_standard_input_plain_and_packed(check, strict: Path) -> None:
    want = {"outcome": "hold", "rows_read": 791, "rows_accepted": 786, "rows_quarantined": 5}
    for name, body in packed(BAD.read_bytes()).items():
        verdict = check(strict, body)["audit"]["verdict"]
        assert {"outcome": verdict["outcome"], **{key: verdict["coverage"][key] for key in list(want)[1:]}} == want, name
    cut = packed(BAD.read_bytes())["gzip"][:-3000]
    assert check(strict, cut)["audit"]["verdict"]["outcome"] == "reject"


def test_json_is_a_line_a_file_with_the_bad_rows(run) -> None:
    done = run("check", "--json", "--contract", path_of("flights"), GOOD, BAD, NOT_CSV)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(report["file"]) for report in reports] == [GOOD, BAD, NOT_CSV]
    assert [report["audit"]["verdict"]["outcome"] for report in reports] == ["publish", "publish", "reject"]
    planted = json.loads((EXAMPLES / "flights/bad/planted.json").read_text())
    found = [(bad["row"], fault["column"], fault["rule"]) for bad in reports[1]["first_bad_rows"] for fault in bad["faults"]]
    assert found == [(bad["row"], bad["column"], bad["rule"]) for bad in planted]
    assert reports[1]["audit"]["broken"] == {f"{bad['column'] or 'row'} {bad['rule']}": 1 for bad in planted}
    assert reports[0]["first_bad_rows"] == []


def test_junit_is_xml_that_names_what_failed(run, strict: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a <b> & \"c\" 'd'.csv"
    odd.write_bytes(BAD.read_bytes())
    done = run("check", "--junit", "--contract", strict, GOOD, odd, NOT_CSV)
    assert done.returncode == 2
    good, bad, rejected = ElementTree.fromstring(done.stdout)
    assert [suite.get("name") for suite in (good, bad, rejected)] == [str(GOOD), str(odd), str(NOT_CSV)]
    # A case for the verdict, one for each column and one for the row as a whole.
    cases = ["verdict", *contract("flights")["properties"], "row"]
    for suite in (good, bad, rejected):
        assert [case.get("name") for case in suite] == cases
        failed = {case.get("name") for case in suite if case.find("failure") is not None}
        assert (int(suite.get("tests")), int(suite.get("failures"))) == (len(cases), len(failed))
        assert failed == {good: set(), bad: {"verdict", "origin", "month", "distance", "carrier", "row"}, rejected: {"verdict"}}[suite]
    [origin] = [case for case in bad if case.get("name") == "origin"]
    assert origin.find("failure").get("message").startswith("enum: 1 row")


def marked(done: Done) -> list[tuple[str, str]]:
    """Each fault that is shown with marks: its line, and what the marks stand under."""
    lines, found = done.stdout.splitlines(), []
    for n, line in enumerate(lines):
        if line.strip() and not line.strip(" ^"):
            row = lines[n - 1]
            found.append((lines[n - 2].strip(), "|".join(row[a:b] for a, b in spans(line))))
    return found


def spans(marks: str) -> list[tuple[int, int]]:
    starts = [n for n, c in enumerate(marks) if c == "^" and marks[n - 1] != "^"]
    return [(start, start + len(marks[start:].split(" ")[0])) for start in starts]


def test_marks_stand_under_what_is_wrong(run) -> None:
    found = marked(run("check", "--contract", path_of("flights"), BAD))
    assert [(line.split(":")[0], under) for line, under in found] == [("row 126", "XXX"), ("row 287", "13"), ("row 299", "far"), ("row 330", ",")]


FLAT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "x-sluicegate": {"version": "1.0.0", "team": {"name": "Me"}, "format": {"type": "csv"}},
    "properties": {"name": {"type": "string"}, "n": {"type": "integer"}, "in": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


MISLEADING = {
    "letters of several bytes": ("csv", "name,n\nçé日本,no\n", "no"),
    "quotes": ("csv", '"name","n"\n"a, ""b"" c",no\n', "no"),
    "a byte order mark": ("csv", "\ufeffn,name\nno,a\n", "no"),
    "a long row": ("csv", f"name,n\n{'x' * 500},no\n", "no"),
    "JSON": ("jsonl", '{"name": "x", "n": "no"}\n', '"n"'),
    "the name as a value and inside": ("jsonl", '{"name": "n", "in": {"n": 1}, "n": "no"}\n', '"n"'),
    "the name in a text": ("jsonl", '{"name": "\\"n\\":", "n" : "no"}\n', '"n"'),
}


@pytest.mark.parametrize(("kind", "body", "under"), MISLEADING.values(), ids=list(MISLEADING))
def test_marks_are_not_misled(run, tmp_path: Path, kind: str, body: str, under: str) -> None:
    path, flat = tmp_path / "contract.json", copy.deepcopy(FLAT)
    flat["x-sluicegate"]["format"] = {"type": kind}
    path.write_text(json.dumps(flat))
    done = run("check", "--contract", path, "-", stdin=body.encode())
    [(line, found)] = marked(done)
    assert (line, found) == ('row 1: /n type: must be integer, is "no"', under), done.stdout
    # In JSON the name stands more than once: it is the last.
    if kind == "jsonl":
        row, marks = done.stdout.splitlines()[-2:]
        assert marks.index("^") == row.rindex('"n"')


def test_what_is_classified_is_not_shown(run) -> None:
    done = run("check", "--show", 50, "--contract", path_of("orders"), *DATA["orders"])
    assert done.returncode == 0 and "/customer/email format" in done.stdout
    assert "mallory" not in done.stdout + done.stderr and marked(done) == []


# Documents that nobody means well with.


@pytest.mark.parametrize("document", hostile.documents(), ids=lambda document: document.name)
def test_hostile_contracts_are_refused_within_bounds(run, document: hostile.Hostile, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_bytes(document.body)
    done = run("contract", "lint", "--json", path, limits=LIMITS)
    assert (done.returncode, done.stderr) == (1, "")
    findings = json.loads(done.stdout)["findings"]
    assert findings[0]["pointer"] == document.pointer and document.word in findings[0]["message"], findings[0]
    assert len(done.stdout) < 200_000
    assert run("check", "--contract", path, GOOD, limits=LIMITS).returncode == 2


@pytest.mark.skipif(resource.RLIMIT_AS not in LIMITS, reason="this system bounds no memory")
def test_the_bounds_would_be_noticed(run) -> None:
    assert run("contract", "lint", path_of("flights"), limits={resource.RLIMIT_AS: 8 << 20}).returncode != 0


def test_a_pattern_takes_linear_time(run, tmp_path: Path) -> None:
    path, nested = tmp_path / "contract.json", copy.deepcopy(FLAT)
    nested["properties"]["name"]["pattern"] = "^(a+)+$"
    path.write_text(json.dumps(nested))
    text = "a" * 30_000
    body = "name\n" + f"{text}!\n" * 400 + f"{text}\n"
    done = run("check", "--json", "--contract", path, "-", stdin=body.encode(), limits=LIMITS)
    assert json.loads(done.stdout)["audit"]["broken"] == {"name pattern": 400}
