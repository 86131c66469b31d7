"""The same job, as one would write it with each tool: flows in, the latest record per id and day, Parquet by day.

    python jobs.py JOB INPUT OUT

INPUT is the URL of the flows API or the path of an NDJSON file; OUT is an empty folder, in which each day gets
files under `day=N/`. No job knows how many records come. Each is the fastest form that its author found; if
you know a faster one, put it here.
"""

import os
import sys
import urllib.request
from pathlib import Path

INT = ["id", "time", "duration", "protocol", "packet_count", "byte_count"]
COLUMNS = ["id", "time", "duration", "src_comp", "src_port", "dst_comp", "dst_port", "protocol", "packet_count", "byte_count"]
DAY = 86_400


def polars_latest(frame, out):
    """`frame` is lazy, in stream order; no id comes twice in one second."""
    import polars as pl

    day = (pl.col("time") - 1) // DAY + 1
    latest = frame.with_columns(day.alias("day")).sort("time").unique(["id", "day"], keep="last")
    for (day,), rows in latest.collect(engine="streaming").partition_by("day", as_dict=True, include_key=False).items():
        folder = Path(out, f"day={day}")
        folder.mkdir()
        rows.write_parquet(folder / "0.parquet", compression="zstd", compression_level=1)


def polars_ndjson(path, out):
    import polars as pl

    schema = {name: pl.Int64 if name in INT else pl.String for name in COLUMNS}
    polars_latest(pl.scan_ndjson(path, schema=schema), out)


def lxml_xml(url, out):
    """Streams; a batch of rows at a time becomes columns. What lxml lacks, Polars does."""
    import polars as pl
    from lxml import etree

    schema = {name: pl.Int64 if name in INT else pl.String for name in COLUMNS}
    frames, rows = [], []

    def flush():
        texts = pl.DataFrame(rows, schema={name: pl.String for name in COLUMNS}, orient="row")
        frames.append(texts.cast(schema))
        rows.clear()

    with urllib.request.urlopen(url) as body:
        for _, record in etree.iterparse(body, tag="record"):
            rows.append([field.text for field in record])
            record.clear()
            while record.getprevious() is not None:
                del record.getparent()[0]
            if len(rows) == 50_000:
                flush()
    if rows:
        flush()
    polars_latest(pl.concat(frames).lazy(), out)


def duckdb_ndjson(path, out):
    import duckdb

    columns = ", ".join(f"{name}: '{'BIGINT' if name in INT else 'VARCHAR'}'" for name in COLUMNS)
    duckdb.sql(
        f"""
        COPY (
            SELECT *, (time - 1) // {DAY} + 1 AS day
            FROM read_json('{path}', format = 'newline_delimited', columns = {{{columns}}})
            QUALIFY row_number() OVER (PARTITION BY id, day ORDER BY time DESC) = 1
        ) TO '{out}' (FORMAT parquet, PARTITION_BY (day), COMPRESSION zstd)
        """
    )


def chdb_latest(table, out, settings=""):
    import chdb

    columns = ", ".join(COLUMNS)
    chdb.query(
        f"""
        INSERT INTO FUNCTION file('{out}/day={{_partition_id}}/0.parquet', Parquet) PARTITION BY day
        SELECT {columns}, intDiv(time - 1, {DAY}) + 1 AS day FROM {table}
        ORDER BY time DESC LIMIT 1 BY id, day
        SETTINGS output_format_parquet_compression_method = 'zstd' {settings}
        """
    )


def chdb_structure():
    return ", ".join(f"{name} {'Int64' if name in INT else 'String'}" for name in COLUMNS)


def chdb_ndjson(path, out):
    chdb_latest(f"file('{path}', JSONEachRow, '{chdb_structure()}')", out)


def chdb_xml(url, out):
    """No XML reader: a template of the very bytes that come, which any other blank or order breaks."""
    row, around = Path(f"{out}-row.txt"), Path(f"{out}-around.txt")
    fields = "".join(f"<{name}>${{{name}:CSV}}</{name}>" for name in COLUMNS)
    row.write_text(f"<record>{fields}</record>")
    around.write_text("<?xml version='1.0' encoding='UTF-8'?><records>${data}</records>")
    settings = f", format_template_row = '{row}', format_template_resultset = '{around}'"
    chdb_latest(f"url('{url}', Template, '{chdb_structure()}')", out, settings)


def dlt_xml(url, out):
    """Dicts, merged in DuckDB. With a primary key alone dlt keeps any of the records with one id: `dedup_sort`
    makes it the latest."""
    # It would ask the network before it starts.
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    import duckdb
    from lxml import etree

    @dlt.resource(
        name="flows",
        write_disposition="merge",
        primary_key=("id", "day"),
        columns={"time": {"dedup_sort": "desc"}},
    )
    def flows():
        with urllib.request.urlopen(url) as body:
            for _, record in etree.iterparse(body, tag="record"):
                row = {field.tag: int(field.text) if field.tag in INT else field.text for field in record}
                row["day"] = (row["time"] - 1) // DAY + 1
                yield row
                record.clear()
                while record.getprevious() is not None:
                    del record.getparent()[0]

    work = Path(out).with_name(Path(out).name + "-dlt")
    work.mkdir()
    database = work / "flows.duckdb"
    pipeline = dlt.pipeline(
        "peers", pipelines_dir=str(work), dataset_name="lanl", destination=dlt.destinations.duckdb(str(database))
    )
    # Not as INSERT statements, which DuckDB reads slowly and by the gigabyte.
    pipeline.run(flows(), loader_file_format="parquet")
    columns = ", ".join(COLUMNS)
    duckdb.connect(str(database)).sql(
        f"COPY (SELECT {columns}, day FROM lanl.flows) TO '{out}' (FORMAT parquet, PARTITION_BY (day), COMPRESSION zstd)"
    )


JOBS = {
    "duckdb": duckdb_ndjson,
    "polars": polars_ndjson,
    "chdb": chdb_ndjson,
    "chdb-xml": chdb_xml,
    "lxml": lxml_xml,
    "dlt": dlt_xml,
}

if __name__ == "__main__":
    job, given, out = sys.argv[1:]
    JOBS[job](given, out)
