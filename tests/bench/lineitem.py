"""TPC-H lineitem, CSV → zstd Parquet: stage with every check, beside what DuckDB and Polars take for the bare conversion.

Same rows, same explicit types, zstd level 3, row groups of 131,072 rows, one thread for the work. The others check nothing,
quarantine nothing and write no lineage columns; they are the floor, not rivals.

    python -m bench.lineitem [--scale 1] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import measure
from local import LOCAL, ROOT

HERE = Path(__file__).parent
CONTRACT = HERE / "lineitem.contract.json"
ROW_GROUP, LEVEL = 131_072, 3


def data(scale: float) -> Path:
    """Makes the file once."""
    path = LOCAL / "bench" / f"lineitem-{scale:g}.csv"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
            generator = Path(sys.executable).parent / "tpchgen-cli"
            subprocess.run([generator, "csv", "-s", str(scale), "--tables", "lineitem", "--output-dir", folder], check=True)
            path.parent.mkdir(exist_ok=True)
            shutil.move(Path(folder) / "lineitem.csv", path)
    return path


def types() -> dict[str, str]:
    """Column → one of integer, number, string, date, as the contract says."""
    properties = json.loads(CONTRACT.read_text())["properties"]
    return {name: p.get("format", p["type"]) for name, p in properties.items()}


def duckdb(source: Path, target: Path) -> list[str]:
    names = {"integer": "BIGINT", "number": "DOUBLE", "string": "VARCHAR", "date": "DATE"}
    columns = {name: names[kind] for name, kind in types().items()}
    code = f"""
import duckdb
c = duckdb.connect()
c.execute("SET threads=1")
c.execute("SET temp_directory=''")
c.execute('''COPY (SELECT * FROM read_csv('{source}', header=true, auto_detect=false, delim=',', quote='"', columns={columns!r}))
  TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL}, ROW_GROUP_SIZE {ROW_GROUP})''')
"""
    return [sys.executable, "-c", code]


def polars(source: Path, target: Path) -> list[str]:
    names = {"integer": "Int64", "number": "Float64", "string": "String", "date": "Date"}
    schema = ", ".join(f"{name!r}: pl.{names[kind]}" for name, kind in types().items())
    code = f"""
import polars as pl
pl.scan_csv({str(source)!r}, schema={{{schema}}}).sink_parquet(
    {str(target)!r}, compression="zstd", compression_level={LEVEL}, row_group_size={ROW_GROUP})
"""
    return [sys.executable, "-c", code]


def sluicegate(source: Path, target: Path) -> list[str]:
    return [str(ROOT / "target/release/examples/stage_file"), str(CONTRACT), str(source), str(target)]


def size(target: Path) -> int:
    files = [target] if target.is_file() else list((target / "tables").rglob("*.parquet"))
    return sum(file.stat().st_size for file in files)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--scale", type=float, default=1)
    arguments.add_argument("--runs", type=int, default=5)
    options = arguments.parse_args()
    source = data(options.scale)
    rivals: dict[str, Callable[[Path, Path], list[str]]] = {
        "DuckDB, bare COPY": duckdb,
        "Polars, bare sink_parquet": polars,
        "sluicegate stage": sluicegate,
    }
    runs: dict[str, list[measure.Run]] = {name: [] for name in rivals}
    sizes: dict[str, int] = {}
    # In turn, so that a change of the machine's speed hits all alike; the first round warms up and is not counted.
    for round_ in range(options.runs + 1):
        for name, command in rivals.items():
            with tempfile.TemporaryDirectory(dir=LOCAL) as folder:
                target = Path(folder) / "out"
                run = measure.once(command(source, target), {"POLARS_MAX_THREADS": "1"})
                sizes[name] = size(target)
                if round_:
                    runs[name].append(run)
    medians = {name: measure.median(many) for name, many in runs.items()}
    floor = min(medians[name].cpu for name in list(rivals)[:2])
    print(f"lineitem SF{options.scale:g}: {source.stat().st_size / 1e6:.0f} MB of CSV; {measure.machine()}; medians of {options.runs}\n")
    print("| | CPU s | × the faster bare one | wall s | peak RSS, MiB | output, MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, run in medians.items():
        print(f"| {name} | {run.cpu:.2f} | {run.cpu / floor:.2f} | {run.wall:.2f} | {run.peak_mib:.0f} | {sizes[name] / 1e6:.0f} |")
    verdict = json.loads(medians["sluicegate stage"].output)["verdict"]
    print(f"\nVerdict: {verdict['outcome']}, {verdict['coverage']['rows_accepted']:,} rows accepted.")


if __name__ == "__main__":
    main()
