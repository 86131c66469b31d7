#!/usr/bin/env python3
"""Times the Parquet writers of DuckDB and pyarrow on one core: FOLDER/venv/bin/python benches/peers/parquet.py FILES...

FILES are what a run has staged; `api2bq backfill flows --until stage` makes them. They are read into memory first.
Each way to write runs seven times, in turn; the fastest counts. To be held against `cargo bench --bench stage`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

ROUNDS = 7


def main():
    # Two of the writers would use every core.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    flows = pa.concat_tables(pq.read_table(path) for path in sys.argv[1:]).combine_chunks()
    db = duckdb.connect(config={"threads": 1})
    db.register("staged", flows)
    db.execute("CREATE TABLE flows AS FROM staged")

    def by_duckdb(options):
        return lambda path: db.execute(f"COPY flows TO '{path}' (FORMAT parquet{options})")

    ways = {
        "DuckDB, default (snappy)": by_duckdb(""),
        "DuckDB, zstd 1": by_duckdb(", COMPRESSION zstd, COMPRESSION_LEVEL 1"),
        "pyarrow, default (snappy)": lambda path: pq.write_table(flows, path),
        "pyarrow, zstd 1": lambda path: pq.write_table(flows, path, compression="zstd", compression_level=1),
    }
    seconds, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flows.parquet"
        for _ in range(ROUNDS):
            for name, write in ways.items():
                started = time.perf_counter()
                write(path)
                took = time.perf_counter() - started
                seconds[name] = min(took, seconds.get(name, took))
                sizes[name] = path.stat().st_size
                path.unlink()
    millions = flows.num_rows / 1e6
    print(f"{flows.num_rows:,} rows, one core, fastest of {ROUNDS}")
    for name in ways:
        rate, size = millions / seconds[name], sizes[name] / 1e6 / millions
        print(f"{name:<28} {seconds[name] * 1e3:7.0f} ms {rate:6.2f} M rows/s {size:6.2f} MB per million rows")


if __name__ == "__main__":
    main()
