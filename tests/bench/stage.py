"""What staging costs: decoded, checked, profiled, audited and written as Parquet, beside what others take for less.

    python -m bench.stage [--runs 5] [--quick] [csv jsonl flights files stream dollars]

* csv, jsonl: TPC-H's lineitem under 37 rules and 27 audits, beside DuckDB's and Polars' bare conversion: same rows, same explicit
  types, zstd level 3, row groups of 131,072 rows, one thread for the work. They check nothing, look at nothing, keep no bad row
  and write no lineage: they are the floor, not rivals.
* flights: a year of them in one file, beside pandas with pandera's checks and a `describe`.
* files: ten thousand files of 20 KB in one process, less what their bytes cost in a large one.
* stream: memory while 10 GB go through.
* dollars: a terabyte in files of 100 MB by infra/prices.json, beside Firehose and Glue.

`--quick` runs everything once on tiny data with the dev build: it shows that it works, and measures nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import measure
from bench.contract import FLIGHTS, PANDERA_SCHEMA, flights
from local import LOCAL, REGION, cost
from local.build import target

HERE = Path(__file__).parent
CONTRACT = HERE / "lineitem.contract.json"
DATASET = "benchmark"
ROW_GROUP, LEVEL = 131_072, 3
# The memory at which Lambda gives one processor, and how long land and promote are taken to run for a file.
STAGE_MB, LAND_MB, PROMOTE_MB, OTHERS_MS = 1769, 256, 512, 100
FILE, TERABYTE = 10**8, 10**12
VCPUS_OF_A_DPU, LEAST_DPUS, LEAST_SECONDS = 4, 2, 60


@dataclass(frozen=True)
class Options:
    runs: int
    scale: float
    files: int
    stream: int
    program: Path


@dataclass
class Lake:
    """A folder in which local_lake stages, with some history for audits to look back on."""

    program: Path
    folder: Path
    contract: Path
    clock: Iterator[datetime] = field(
        default_factory=lambda: (datetime(2014, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=n) for n in itertools.count())
    )

    def command(self, *files: Path, promote: bool = False) -> list[str]:
        flags = [] if promote else ["--stage-only"]
        landings = (f"{file}@{next(self.clock):%Y-%m-%dT%H:%M:%SZ}" for file in files)
        return [str(self.program), *flags, str(self.folder), str(self.contract), DATASET, *landings]

    def publish(self, *files: Path) -> list[dict[str, Any]]:
        done = subprocess.run(self.command(*files, promote=True), check=True, capture_output=True, text=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def proposals(self, output: str) -> Iterator[dict[str, Any]]:
        return (json.loads((self.folder / json.loads(line)["proposal"]).read_text()) for line in output.splitlines())


@contextmanager
def lake(options: Options, contract: Path, source: Path | None = None) -> Iterator[Lake]:
    """A lake in which `source` was published twice, if there is one."""
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
        made = Lake(options.program, Path(folder) / "lake", contract)
        if source:
            for name in ("first", "second"):
                link = Path(folder) / f"{name}{source.suffix}"
                link.symlink_to(source.resolve())
                made.publish(link)
        yield made


# --------------------------------------------------------------------------------------------------------------- side by side


@dataclass
class Contender:
    name: str
    # The command for a file that it writes; ours writes into its lake and says where.
    command: Callable[[Path], list[str]]
    runs: list[measure.Run] = field(default_factory=list)
    megabytes: float = 0

    def go(self, ours: Lake | None) -> measure.Run:
        with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
            # What is staged is written there first.
            run = measure.once(self.command(Path(folder) / "out.parquet"), {"POLARS_MAX_THREADS": "1", "TMPDIR": folder})
            paths = list(Path(folder).glob("*.parquet"))
            if ours:
                paths = [Path(file["path"]) for proposal in ours.proposals(run.output) for file in proposal["files"]]
            self.megabytes = sum(path.stat().st_size for path in paths) / 1e6
            for path in paths:
                path.unlink()
        return run


def side_by_side(title: str, ours: Lake, source: Path, others: dict[str, Callable[[Path], list[str]]], runs: int) -> dict[str, measure.Run]:
    """Prints a table; answers with the medians by name."""
    contenders = [Contender(name, command) for name, command in others.items()]
    contenders.append(Contender("sluicegate", lambda _: ours.command(source)))
    # In turn, so that a change of the machine's speed hits all alike; the first round warms up and is not counted.
    for round_ in range(runs + 1):
        for contender in contenders:
            run = contender.go(ours if contender.name == "sluicegate" else None)
            if round_:
                contender.runs.append(run)
    medians = {contender.name: measure.median(contender.runs) for contender in contenders}
    floor = min(medians[name].cpu for name in others)
    print(f"### {title}: {source.stat().st_size / 1e6:,.0f} MB; {measure.machine()}; medians of {runs}\n")
    print(f"| | CPU s | × {'the faster' if len(others) > 1 else 'the other'} | wall s | peak RSS, MiB | output, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for contender in contenders:
        run = medians[contender.name]
        print(
            f"| {contender.name} | {run.cpu:.2f} | {run.cpu / floor:.2f} | {run.wall:.2f} | {run.peak_mib:.0f} | {contender.megabytes:.1f} |"
        )
    [proposal] = ours.proposals(medians["sluicegate"].output)
    print(f"\n{said(proposal)}\n")
    return medians


def said(proposal: dict[str, Any]) -> str:
    """The verdict in words, so that a table of something else cannot pass for one of this."""
    verdict, states = proposal["verdict"], Counter(audit["state"] for audit in proposal["audits"])
    audits = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
    reasons = "".join(f" ({reason['message']})" for reason in verdict["reasons"])
    return f"Verdict: {verdict['outcome']}{reasons}, {verdict['coverage']['rows_accepted']:,} rows accepted. Audits: {audits}."


# ------------------------------------------------------------------------------------------------------------------- lineitem


def lineitem(scale: float) -> Path:
    """TPC-H's lineitem as CSV, made once."""
    path = LOCAL / "bench" / f"lineitem-{scale:g}.csv"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
            generator = Path(sys.executable).parent / "tpchgen-cli"
            subprocess.run([generator, "csv", "-s", str(scale), "--tables", "lineitem", "--output-dir", folder], check=True)
            path.parent.mkdir(exist_ok=True)
            shutil.move(Path(folder) / "lineitem.csv", path)
    return path


def lineitem_jsonl(scale: float) -> tuple[Path, Path]:
    """The same as JSON Lines, made once by DuckDB, and a contract for it."""
    source = lineitem(scale)
    path, contract = source.with_suffix(".jsonl"), source.with_suffix(".jsonl.contract.json")
    document = json.loads(CONTRACT.read_text())
    document["x-sluicegate"]["format"] = {"type": "jsonl"}
    contract.write_text(json.dumps(document))
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
            made = Path(folder) / path.name
            subprocess.run(duckdb(f"read_csv('{source}', {duckdb_csv()})", made, "FORMAT json"), check=True)
            shutil.move(made, path)
    return path, contract


def types() -> dict[str, str]:
    """Column → one of integer, number, string, date, as the contract says."""
    properties = json.loads(CONTRACT.read_text())["properties"]
    return {name: p.get("format", p["type"]) for name, p in properties.items()}


PARQUET = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL}, ROW_GROUP_SIZE {ROW_GROUP}"


def duckdb_columns() -> str:
    names = {"integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR", "date": "DATE"}
    return f"columns={ {name: names[kind] for name, kind in types().items()} }"


def duckdb_csv() -> str:
    return f"header=true, auto_detect=false, delim=',', quote='\"', {duckdb_columns()}"


def duckdb(source: str, out: Path, options: str = PARQUET) -> list[str]:
    code = f"""
import duckdb
c = duckdb.connect()
c.execute("SET threads=1")
c.execute("SET enable_progress_bar=false")
c.execute("SET temp_directory=''")
c.execute({f"COPY (SELECT * FROM {source}) TO '{out}' ({options})"!r})
"""
    return [sys.executable, "-c", code]


def polars(scan: str, out: Path) -> list[str]:
    names = {"integer": "Int64", "number": "Float64", "string": "String", "date": "Date"}
    schema = ", ".join(f"{name!r}: pl.{names[kind]}" for name, kind in types().items())
    code = f"""
import polars as pl
pl.{scan.replace("SCHEMA", "schema={" + schema + "}")}.sink_parquet(
    {str(out)!r}, compression="zstd", compression_level={LEVEL}, row_group_size={ROW_GROUP})
"""
    return [sys.executable, "-c", code]


def csv(options: Options) -> dict[str, measure.Run]:
    source = lineitem(options.scale)
    others = {
        "DuckDB, bare COPY": lambda out: duckdb(f"read_csv('{source}', {duckdb_csv()})", out),
        "Polars, bare sink_parquet": lambda out: polars(f"scan_csv({str(source)!r}, SCHEMA)", out),
    }
    with lake(options, CONTRACT, source) as ours:
        return side_by_side(f"lineitem SF{options.scale:g}, CSV", ours, source, others, options.runs)


def jsonl(options: Options) -> None:
    source, contract = lineitem_jsonl(options.scale)
    read = f"read_json('{source}', format='newline_delimited', {duckdb_columns()})"
    others = {
        "DuckDB, bare COPY": lambda out: duckdb(read, out),
        "Polars, bare sink_parquet": lambda out: polars(f"scan_ndjson({str(source)!r}, SCHEMA)", out),
    }
    with lake(options, contract, source) as ours:
        side_by_side(f"lineitem SF{options.scale:g}, JSON Lines", ours, source, others, options.runs)


# -------------------------------------------------------------------------------------------------------------------- flights


PANDAS = (
    PANDERA_SCHEMA
    + """
frame = schema.validate(read())
frame.describe(include="all")
frame.to_parquet({out!r}, engine="pyarrow", compression="zstd", compression_level={level}, row_group_size={row_group})
"""
)


def year(options: Options) -> None:
    """One file of Parquet on either side: the contract's partitions by day are left out of it."""
    source, _, _ = measure.apart(flights)
    python = str(LOCAL / "pandera" / "bin" / "python")
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
        contract = Path(folder) / "flights.contract.json"
        document = json.loads(FLIGHTS.read_text())
        document["x-sluicegate"]["event_time"]["grain"] = "none"
        contract.write_text(json.dumps(document))

        def pandas(out: Path) -> list[str]:
            code = PANDAS.format(contract=str(contract), path=str(source), out=str(out), level=LEVEL, row_group=ROW_GROUP)
            return [python, "-c", code]

        with lake(options, contract) as ours:
            others = {"pandas, pandera, describe, to_parquet": pandas}
            side_by_side("flights of 2013, CSV", ours, source, others, options.runs)


# ------------------------------------------------------------------------------------------------- small files, and a large one


def pieces(source: Path, folder: Path, count: int, size: int) -> list[Path]:
    """The first rows of a CSV file as so many files of about so many bytes, each with the header."""
    made = []
    with source.open("rb") as rows:
        header = rows.readline()
        for n in range(count):
            path = folder / f"{n:05}.csv"
            path.write_bytes(header + b"".join(rows.readlines(size - len(header))))
            made.append(path)
    return made


def files(options: Options, seconds_per_byte: float) -> float:
    """Prints what a small file costs beyond its bytes, and answers with it in seconds."""
    size = 20_000
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder, lake(options, CONTRACT) as ours:
        first, second, *small = pieces(lineitem(options.scale), Path(folder), options.files + 2, size)
        ours.publish(first, second)
        run = measure.once(ours.command(*small), {})
        total = sum(path.stat().st_size for path in small)
        lines = [json.loads(line)["requests"]["stage"] for line in run.output.splitlines()]
        requests = Counter(", ".join(f"{kind} {count}" for kind, count in sorted(line.items())) for line in lines)
        outcomes = Counter(proposal["verdict"]["outcome"] for proposal in ours.proposals(run.output))
    overhead = (run.cpu - seconds_per_byte * total) / len(small)
    print(f"### {len(small):,} files of {total / len(small) / 1000:.1f} KB, staged in one process\n")
    print("| CPU s | of it for the bytes | overhead a file, ms | peak RSS, MiB | verdicts | requests of a file, mostly |")
    print("|---:|---:|---:|---:|---|---|")
    [(usual, _)] = requests.most_common(1)
    verdicts = ", ".join(f"{outcome} {count:,}" for outcome, count in sorted(outcomes.items()))
    print(f"| {run.cpu:.2f} | {seconds_per_byte * total:.2f} | {overhead * 1000:.2f} | {run.peak_mib:.0f} | {verdicts} | {usual} |\n")
    return overhead


def repeat(source: Path, large: Path, copies: int) -> None:
    """Writes a file of lineitem over and over, with every key once: each order's number begins with that of the copy."""
    with large.open("wb") as out:
        for copy in range(copies):
            with source.open("rb") as rows:
                header = rows.readline()
                if not copy:
                    out.write(header)
                # As many digits for each, so that no two copies make the same number.
                mark = str(10 ** len(str(copies)) + copy).encode()
                while piece := rows.readlines(1 << 24):
                    out.writelines(itertools.chain.from_iterable(zip(itertools.repeat(mark), piece)))


def stream(options: Options) -> None:
    """Prints what is held while a file goes through that is larger than any memory."""
    source = lineitem(options.scale)
    copies = max(options.stream // source.stat().st_size + 1, 2)
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder, lake(options, CONTRACT) as ours:
        large = Path(folder) / "large.csv"
        measure.apart(repeat, source, large, copies)
        size = large.stat().st_size
        run = measure.once(ours.command(large), {"TMPDIR": folder})
        [proposal] = ours.proposals(run.output)
    print(f"### {size / 1e9:.2g} GB in one stream\n")
    print("| CPU s | MB a CPU second | peak RSS, MiB |")
    print("|---:|---:|---:|")
    print(f"| {run.cpu:.1f} | {size / run.cpu / 1e6:.0f} | {run.peak_mib:.0f} |\n\n{said(proposal)}\n")


# -------------------------------------------------------------------------------------------------------------------- dollars


def dollars(options: Options, seconds_per_byte: float, overhead: float, bare_seconds_per_byte: float) -> None:
    """Ours by CPU seconds and counted requests; theirs by what they publish."""
    with tempfile.TemporaryDirectory(dir=LOCAL) as folder, lake(options, CONTRACT) as ours:
        *_, last = ours.publish(*pieces(lineitem(options.scale), Path(folder), 3, 100_000))
    requests = Counter({"s3:HeadObject": 1, "s3:CopyObject": 1})
    for counted in last["requests"].values():
        requests.update(counted)
    # Two messages, each sent, received and deleted.
    requests.update({"sqs:SendMessageBatch": 2, "sqs:ReceiveMessage": 2, "sqs:DeleteMessageBatch": 2})
    stage_ms = 1000 * (FILE * seconds_per_byte + overhead)
    runs = [(stage_ms, STAGE_MB), (OTHERS_MS, LAND_MB), (OTHERS_MS, PROMOTE_MB)]
    count = TERABYTE // FILE
    bill = cost.bill(requests, [{"Duration": milliseconds, "MemorySize": memory} for milliseconds, memory in runs])
    compute = sum(item.usd or 0 for item in bill if item.what.startswith("lambda")) * count
    asked = sum(item.usd or 0 for item in bill if not item.what.startswith("lambda")) * count
    price = lambda service, row: Decimal(prices[service][row]["price"])  # noqa: E731
    prices = json.loads(cost.PRICES.read_text())["regions"][REGION]
    firehose = (price("firehose", "ingestion") + price("firehose", "format_conversion")) * TERABYTE / 10**9
    glue_a_file = price("glue", "spark") * LEAST_DPUS * LEAST_SECONDS / 3600 * count
    glue_in_bulk = price("glue", "spark") * Decimal(TERABYTE * bare_seconds_per_byte) / VCPUS_OF_A_DPU / 3600
    print(f"### Dollars for 1 TB in files of 100 MB, {REGION}\n\n| | dollars | of what |\n|---|---:|---|")
    print(f"| sluicegate | {compute + asked:.2f} | Lambda {compute:.2f}, requests and logs {asked:.2f} |")
    print(f"| Firehose with conversion | {firehose:.2f} | ingestion and format conversion by the GB; checks nothing |")
    print(f"| Glue, a run a file | {glue_a_file:.2f} | {LEAST_DPUS} DPUs for {LEAST_SECONDS} s, the least that is billed |")
    print(f"| Glue, all in one run | {glue_in_bulk:.2f} | as if Spark took no more CPU than bare DuckDB and started at once |")
    each = ", ".join(f"{kind} {number}" for kind, number in sorted(requests.items()))
    print(
        f"\nOurs, a file: {stage_ms / 1000:.2f} s of stage at {STAGE_MB} MB, which is one processor: the CPU seconds measured here at the price of"
        f" arm64, and no waiting for S3; {OTHERS_MS} ms each of land and promote; a commit of its own. Requests: {each}. Storage is not in it.\n"
    )


# ----------------------------------------------------------------------------------------------------------------------- main


SECTIONS = ("csv", "jsonl", "flights", "files", "stream", "dollars")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all of them by default")
    arguments = parser.parse_args()
    wanted = arguments.sections or SECTIONS
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(unknown)}")
    profile = "debug" if arguments.quick else "release"
    program = target().with_name(profile) / "examples" / "local_lake"
    options = Options(arguments.runs, 1, 10_000, 10 * 10**9, program)
    if arguments.quick:
        options = Options(1, 0.01, 50, 2 * 10**7, program)
    (LOCAL / "bench").mkdir(parents=True, exist_ok=True)
    own = bare = overhead = 0.0
    if {"csv", "files", "dollars"} & set(wanted):
        medians, size = csv(options), lineitem(options.scale).stat().st_size
        own, bare = medians["sluicegate"].cpu / size, medians["DuckDB, bare COPY"].cpu / size
    if "jsonl" in wanted:
        jsonl(options)
    if "flights" in wanted:
        year(options)
    if {"files", "dollars"} & set(wanted):
        overhead = files(options, own)
    if "stream" in wanted:
        stream(options)
    if "dollars" in wanted:
        dollars(options, own, overhead, bare)


if __name__ == "__main__":
    main()
