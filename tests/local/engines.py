"""Other people's engines reading what we publish, with nothing of ours but the table's root.

Each returns the same `Figures`, or the same rows, each by its own reading of Iceberg: pyiceberg, DuckDB's extension,
Polars; ClickHouse answers SQL. Rows are those of the newest snapshot, or of a snapshot whose id is given. DuckDB loads its
extensions from the packages pinned beside it, so that no reader needs more network than pip did.
"""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import StaticTable

from local import KEY_ID, LOCAL, REGION, SECRET, Trouble
from local.example import Figures


def root(bucket: str, dataset: str) -> str:
    return f"s3://{bucket}/tables/{dataset}"


def properties(endpoint: str) -> dict[str, str]:
    """What pyiceberg and Polars want to know of the store."""
    return {
        "s3.endpoint": endpoint,
        "s3.access-key-id": KEY_ID,
        "s3.secret-access-key": SECRET,
        "s3.region": REGION,
        "s3.force-virtual-addressing": "false",
    }


def table(endpoint: str, bucket: str, dataset: str) -> StaticTable:
    """The published table; pyiceberg follows version-hint.text from the root."""
    return StaticTable.from_metadata(root(bucket, dataset), properties(endpoint))


def snapshots(endpoint: str, bucket: str, dataset: str) -> list[int]:
    """The ids of the live snapshots, oldest first."""
    live = table(endpoint, bucket, dataset).snapshots()
    return [snapshot.snapshot_id for snapshot in sorted(live, key=lambda snapshot: snapshot.sequence_number or 0)]


def rows(endpoint: str, bucket: str, dataset: str, snapshot: int | None = None) -> list[dict[str, Any]]:
    """All rows, as pyiceberg reads them."""
    return table(endpoint, bucket, dataset).scan(snapshot_id=snapshot).to_arrow().to_pylist()


def rows_at(endpoint: str, uri: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of the table at a URI, as pyiceberg and DuckDB read them."""
    with duckdb_connection(endpoint) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        by_duckdb = connection.execute(f"SELECT * FROM iceberg_scan('{uri}')").to_arrow_table().to_pylist()
    by_pyiceberg = StaticTable.from_metadata(uri, properties(endpoint)).scan().to_arrow().to_pylist()
    return {"pyiceberg": by_pyiceberg, "DuckDB": by_duckdb}


def duckdb_connection(endpoint: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET autoinstall_known_extensions = false")
    for extension in ("httpfs", "avro", "iceberg"):
        connection.execute(f"LOAD '{_extension(extension)}'")
    host = endpoint.removeprefix("http://")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION '{REGION}', ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false)"
    )
    return connection


def _extension(name: str) -> Path:
    distribution = metadata.distribution(f"duckdb_extension_{name}")
    [path] = [file for file in distribution.files or [] if file.name == f"{name}.duckdb_extension"]
    return Path(str(distribution.locate_file(path)))


def by_pyiceberg(endpoint: str, bucket: str, dataset: str) -> Figures:
    columns = ("distance", "dep_time", "month")
    read: pa.Table = table(endpoint, bucket, dataset).scan(selected_fields=columns).to_arrow()
    months = read.group_by("month").aggregate([([], "count_all")]).sort_by("month").to_pydict()
    return Figures(
        read.num_rows,
        round(pc.sum(read["distance"]).as_py() or 0),
        read["dep_time"].null_count,
        dict(zip(months["month"], months["count_all"])),
    )


def by_duckdb(endpoint: str, bucket: str, dataset: str) -> Figures:
    with duckdb_connection(endpoint) as connection:
        scan = f"iceberg_scan('{root(bucket, dataset)}')"
        [(count, distance, nulls)] = connection.execute(
            f"SELECT count(*), sum(distance), count(*) - count(dep_time) FROM {scan}"
        ).fetchall()
        months = connection.execute(f"SELECT month, count(*) FROM {scan} GROUP BY month ORDER BY month").fetchall()
    return Figures(count, round(distance or 0), nulls, dict(months))


def by_polars(endpoint: str, bucket: str, dataset: str) -> Figures:
    scan = polars.scan_iceberg(root(bucket, dataset), storage_options=properties(endpoint))
    frame = scan.select("distance", "dep_time", "month").collect()
    months = frame.group_by("month").len().sort("month")
    return Figures(
        frame.height, round(frame["distance"].sum()), frame["dep_time"].null_count(), dict(zip(months["month"], months["len"]))
    )


ENGINES = {"pyiceberg": by_pyiceberg, "DuckDB": by_duckdb, "Polars": by_polars}


def rows_by_duckdb(endpoint: str, bucket: str, dataset: str, snapshot: int | None = None) -> list[dict[str, Any]]:
    scan = f"iceberg_scan('{root(bucket, dataset)}'{'' if snapshot is None else f', snapshot_from_id = {snapshot}'})"
    with duckdb_connection(endpoint) as connection:
        # Through Arrow: DuckDB's own way to Python wants pytz for a timestamp.
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(f"SELECT * FROM {scan}").to_arrow_table().to_pylist()


def rows_by_polars(endpoint: str, bucket: str, dataset: str, snapshot: int | None = None) -> list[dict[str, Any]]:
    scan = polars.scan_iceberg(root(bucket, dataset), snapshot_id=snapshot, storage_options=properties(endpoint))
    return scan.collect().to_arrow().to_pylist()


# All rows and columns: values are those of Python, nested ones dicts and lists, and never depend on the engine.
ROWS = {"pyiceberg": rows, "DuckDB": rows_by_duckdb, "Polars": rows_by_polars}


CLICKHOUSE = "import chdb, sys; sys.stdout.write(str(chdb.query(sys.stdin.read(), 'JSONEachRow')))"


def by_clickhouse(sql: str) -> list[dict[str, Any]]:
    """What ClickHouse answers, values as JSON has them. It is half a gigabyte, so only `make test-long` installs it."""
    credentials = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION}
    command = [str(LOCAL / "oracle" / "bin" / "python"), "-c", CLICKHOUSE]
    done = subprocess.run(command, input=sql, env=credentials, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise Trouble(f"ClickHouse cannot answer {sql}: {done.stderr.strip()[-1000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def rows_by_clickhouse(endpoint: str, bucket: str, dataset: str, snapshot: int | None = None) -> list[dict[str, Any]]:
    """All rows, instants as text of ISO 8601, and no object is null: to ClickHouse it is one of empty values."""
    scan = f"icebergS3('{endpoint}/{bucket}/tables/{dataset}/', SETTINGS iceberg_use_version_hint = 1)"
    at = "" if snapshot is None else f", iceberg_snapshot_id = {snapshot}"
    return by_clickhouse(f"SELECT * FROM {scan} SETTINGS date_time_output_format = 'iso'{at}")


def snippet(endpoint: str, bucket: str, dataset: str) -> str:
    """What to paste to read the table: SQL for DuckDB, whose first line wants its extension server, and then Python."""
    location, host = root(bucket, dataset), endpoint.removeprefix("http://")
    return f"""\
-- DuckDB (without network: LOAD the files in .local/readers/lib/*/site-packages/duckdb_extension_*)
INSTALL httpfs; LOAD httpfs; INSTALL iceberg; LOAD iceberg;
CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION '{REGION}', ENDPOINT '{host}', URL_STYLE 'path', USE_SSL false);
SELECT month, count(*), sum(distance) FROM iceberg_scan('{location}') GROUP BY month;

# Python: .local/readers/bin/python has pyiceberg
from pyiceberg.table import StaticTable
table = StaticTable.from_metadata("{location}", {{
    "s3.endpoint": "{endpoint}", "s3.region": "{REGION}", "s3.access-key-id": "{KEY_ID}", "s3.secret-access-key": "{SECRET}",
    "s3.force-virtual-addressing": "false"}})
print(table.scan().to_arrow().num_rows)"""
