"""The contract's checks beside the jsonschema crate's and pandera's, on the same rows in one run.

    python -m bench.contract [--runs 5] [--orders 200000]

Flights are the 336,776 of 2013, as JSON Lines and as CSV; orders are made here, nested, the same every time. One thread each.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from bench import measure
from local import LOCAL, ROOT

HERE = Path(__file__).parent
FLIGHTS = ROOT / "examples" / "flights" / "contract.json"
SPEED = ROOT / "target" / "release" / "examples" / "contract_speed"


def flights() -> tuple[Path, Path, Path]:
    """The year as CSV and as JSON Lines, and a contract for the latter."""
    folder = LOCAL / "bench"
    folder.mkdir(exist_ok=True)
    table, lines, contract = folder / "flights.csv", folder / "flights.jsonl", folder / "flights.jsonl.contract.json"
    document = json.loads(FLIGHTS.read_text())
    document["x-sluicegate"]["format"] = {"type": "jsonl"}
    contract.write_text(json.dumps(document))
    if lines.exists() and table.exists():
        return table, lines, contract
    whole = {name: p["type"] for name, p in document["properties"].items()}
    with table.open("w", newline="") as csv_out, lines.open("w") as jsonl_out:
        writer = None
        for row in year():
            if writer is None:
                writer = csv.DictWriter(csv_out, row.keys(), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            typed = {}
            for name, text in row.items():
                if text in ("", "NA"):
                    typed[name] = None
                elif "integer" in whole[name]:
                    typed[name] = int(float(text))
                elif "number" in whole[name]:
                    typed[name] = float(text)
                else:
                    typed[name] = text
            jsonl_out.write(json.dumps({k: v for k, v in typed.items() if v is not None or "null" in whole[k]}) + "\n")
    return table, lines, contract


def year() -> Iterator[dict[str, str]]:
    """Every flight of 2013, as the example's own maker reads them."""
    spec = importlib.util.spec_from_file_location("make_data", ROOT / "examples" / "flights" / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    header, rows = module.flights()
    yield from csv.DictReader(line.decode() for line in [header, *rows])


def orders(count: int) -> tuple[Path, Path]:
    """Orders with a customer and a few lines each; decimals are written as numbers."""
    contract, path = HERE / "orders.contract.json", LOCAL / "bench" / f"orders-{count}.jsonl"
    if path.exists():
        return path, contract
    rng = random.Random(7)
    with path.open("w") as out:
        for n in range(count):
            lines = [
                {
                    "sku": f"{rng.choice('ABCDEF')}{rng.choice('GHIJKL')}-{rng.randrange(10000):04}",
                    "quantity": rng.randrange(1, 20),
                    "price": float(Decimal(rng.randrange(1, 1_000_000)) / 100),
                }
                for _ in range(rng.randrange(1, 6))
            ]
            order = {
                "order_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                "placed_at": f"2025-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}T{rng.randrange(24):02}:00:00Z",
                "status": rng.choice(["open", "paid", "cancelled"]),
                "customer": {"id": n % 5000, "name": f"Customer {n % 5000}", "email": f"c{n % 5000}@example.com"},
                "lines": lines,
                "address": None if n % 3 else {"street": "1 Main St", "city": "Springfield", "zip": f"{n % 100000:05}"},
            }
            out.write(json.dumps(order) + "\n")
    return path, contract


# Pandera's schema of a contract of flat rows, and `read()`, which reads CSV with its types.
PANDERA_SCHEMA = """
import json, re, sys, time
import pandas as pd
import pandera.pandas as pa
contract = json.load(open({contract!r})); path = {path!r}
names = {{"integer": "Int64", "number": "float64", "string": "string"}}
columns, dtypes, dates = {{}}, {{}}, []
for name, p in contract["properties"].items():
    types = p["type"] if isinstance(p["type"], list) else [p["type"]]
    kind = next(t for t in types if t != "null")
    checks = []
    if "minimum" in p: checks.append(pa.Check.ge(p["minimum"]))
    if "maximum" in p: checks.append(pa.Check.le(p["maximum"]))
    if "exclusiveMinimum" in p: checks.append(pa.Check.gt(p["exclusiveMinimum"]))
    if "pattern" in p: checks.append(pa.Check.str_matches(p["pattern"]))
    if "enum" in p: checks.append(pa.Check.isin(p["enum"]))
    if "minLength" in p or "maxLength" in p: checks.append(pa.Check.str_length(p.get("minLength"), p.get("maxLength")))
    if p.get("format") == "date-time":
        dates.append(name); dtype = "datetime64[us, UTC]"
    else:
        dtypes[name] = dtype = names[kind]
    columns[name] = pa.Column(dtype, checks, nullable="null" in types or name not in contract["required"])
schema = pa.DataFrameSchema(columns)
def read():
    return pd.read_csv(path, dtype=dtypes, parse_dates=dates, keep_default_na=False, na_values=["", "NA"])
"""
PANDERA = (
    PANDERA_SCHEMA
    + """
runs = {runs}
def median(work):
    times = []
    for _ in range(runs):
        began = time.perf_counter(); work(); times.append(time.perf_counter() - began)
    return sorted(times)[runs // 2]
frame = read(); rows = len(frame)
check = median(lambda: schema.validate(frame)); whole = median(lambda: schema.validate(read()))
print(json.dumps({{"rows": rows, "check": check * 1e9 / rows, "whole": whole * 1e9 / rows}}))
"""
)


def speed(contract: Path, path: Path, runs: int) -> dict:
    return json.loads(subprocess.run([SPEED, contract, path, str(runs)], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--orders", type=int, default=200_000)
    arguments = parser.parse_args()
    table, lines, flights_contract = flights()
    path, orders_contract = orders(arguments.orders)
    print(f"{measure.machine()}; medians of {arguments.runs}; nanoseconds a row\n")
    print("| rows | | checks alone | × | from bytes to a verdict | × |")
    print("|---|---|---:|---:|---:|---:|")
    for what, contract, data in [("flights, JSON Lines", flights_contract, lines), ("orders, JSON Lines", orders_contract, path)]:
        own = speed(contract, data, arguments.runs)
        print(f"| {what} | sluicegate | {own['check']:.0f} | 1.0 | {own['whole']:.0f} | 1.0 |")
        check, whole = own["oracle_check"], own["oracle_whole"]
        print(f"| | jsonschema crate, row by row | {check:.0f} | {check / own['check']:.1f} | {whole:.0f} | {whole / own['whole']:.1f} |")
    own = speed(FLIGHTS, table, arguments.runs)
    code = PANDERA.format(contract=str(FLIGHTS), path=str(table), runs=arguments.runs)
    python = LOCAL / "pandera" / "bin" / "python"
    other = json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)
    print(f"| flights, CSV | sluicegate | {own['check']:.0f} | 1.0 | {own['whole']:.0f} | 1.0 |")
    print(f"| | pandera on pandas | {other['check']:.0f} | {other['check'] / own['check']:.1f} | {other['whole']:.0f} | {other['whole'] / own['whole']:.1f} |")
    print(f"\n{own['rows']:,} flights, {arguments.orders:,} orders.")


if __name__ == "__main__":
    sys.exit(main())
