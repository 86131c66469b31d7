#!/usr/bin/env python3
"""Asks `api2bq sql`, DataFusion's own command-line tool and DuckDB's the same of the same staged Parquet.

    python3 benches/peers/sql.py STAGE --datafusion-cli PATH --duckdb PATH [--api2bq target/release/api2bq] [--runs 7]

STAGE is a folder that `backfill flows --until stage` filled. Every query is a process of its own, start and opening of
the files included; the three take turns, medians count, and their answers are compared. Get the others with
`cargo install datafusion-cli` and `pip install duckdb-cli`.
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# Integers are divided by `//`, which only DuckDB knows; elsewhere `/` does it.
QUERIES = {
    "rows, bytes and ends by day": """SELECT (time - 1) // 86400 + 1 AS d, COUNT(*) AS n, SUM(byte_count) AS b,
        MIN(time) AS lo, MAX(time) AS hi FROM flows GROUP BY 1""",
    "sums by protocol": """SELECT protocol, COUNT(*) AS n, SUM(byte_count) AS b, MAX(packet_count) AS p
        FROM flows GROUP BY protocol""",
    "bytes by pair of hosts, top 20": """SELECT src_comp, dst_comp, SUM(byte_count) AS b FROM flows
        GROUP BY src_comp, dst_comp ORDER BY b DESC, src_comp, dst_comp LIMIT 20""",
    "distinct hosts": "SELECT COUNT(DISTINCT src_comp) AS s, COUNT(DISTINCT dst_comp) AS d FROM flows",
    "by hour, one protocol": """SELECT (time - 1) // 3600 AS h, COUNT(*) AS n, SUM(duration) AS s
        FROM flows WHERE protocol = 17 GROUP BY 1""",
    "latest per id": """SELECT COUNT(*) AS n, SUM(time) AS t FROM (SELECT time, ROW_NUMBER() OVER (PARTITION BY id
        ORDER BY time DESC) AS r FROM flows) AS numbered WHERE r = 1""",
}


def commands(args, files):
    """For each tool, what answers a query as CSV with a header."""
    listed = ", ".join(f"'{file}'" for file in files)
    view = f"CREATE VIEW flows AS SELECT * FROM read_parquet([{listed}])"
    table = f"CREATE EXTERNAL TABLE flows STORED AS PARQUET LOCATION '{args.stage}/'"
    below = "SET datafusion.execution.listing_table_ignore_subdirectory = false"
    return {
        "api2bq": lambda sql: [args.api2bq, "sql", "--set", f"stage.url={args.stage}", "--format", "csv", "-c",
                               sql.replace("//", "/")],
        "datafusion-cli": lambda sql: [args.datafusion_cli, "--quiet", "--format", "csv", "-c", below, "-c", table,
                                       "-c", sql.replace("//", "/")],
        "duckdb": lambda sql: [args.duckdb, "-csv", "-c", view, "-c", sql],
    }


def answer(command):
    """Wall and CPU seconds, the highest resident memory in MiB, and the rows, sorted."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        if (process := os.waitstatus_to_exitcode(status)) != 0:
            err.seek(0)
            sys.exit(f"{' '.join(map(str, command))}\nended with {process}:\n{err.read()}")
        out.seek(0)
        rows = sorted(tuple(row) for row in csv.reader(io.StringIO(out.read())))
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", type=lambda path: Path(path).resolve())
    parser.add_argument("--api2bq", default="target/release/api2bq")
    parser.add_argument("--datafusion-cli", required=True)
    parser.add_argument("--duckdb", required=True)
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()
    files = sorted(args.stage.rglob("*.parquet"))
    if not files:
        sys.exit(f"no Parquet below {args.stage}: fill it with `api2bq backfill flows --until stage`")
    tools = commands(args, files)
    print("| query | " + " | ".join(f"{tool}: s, CPU s, MiB" for tool in tools) + " | to datafusion-cli |")
    print("|---" * (len(tools) + 2) + "|")
    for name, sql in QUERIES.items():
        taken, answers = {tool: [] for tool in tools}, {}
        for run in range(args.runs + 1):
            for tool, command in tools.items():
                *cost, answers[tool] = answer(command(sql))
                if run > 0:  # the first only warms up
                    taken[tool].append(cost)
        # The rows alone: tools name columns in their own ways.
        if len({tuple(row for row in rows if row[-1].lstrip("-").isdigit()) for rows in answers.values()}) != 1:
            sys.exit(f"{name}: the answers differ: {answers}")
        middle = {tool: [statistics.median(column) for column in zip(*costs)] for tool, costs in taken.items()}
        cells = [f"{wall:.2f}, {cpu:.2f}, {memory:.0f}" for wall, cpu, memory in middle.values()]
        ratio = middle["api2bq"][0] / middle["datafusion-cli"][0]
        print(f"| {name} | " + " | ".join(cells) + f" | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
