"""Extract jobs: what is in a table, in files of every format."""

import csv
import datetime
import gzip
import io
import json

import duckdb
import fastavro
import pytest
from google.api_core import exceptions
from google.cloud import bigquery

COLUMNS = """
    i INT64, f FLOAT64, b BOOL, s STRING, y BYTES, d DATE, dt DATETIME, t TIME, ts TIMESTAMP, n NUMERIC
"""
@pytest.fixture(scope="module")
def table(client, dataset):
    """One row of every plain type, one of NULL, and one of the empty text."""
    schema = [bigquery.SchemaField(*column.split()) for column in COLUMNS.split(",")]
    made = client.create_table(bigquery.Table(f"{dataset.project}.{dataset.dataset_id}.plain", schema=schema))
    rows = [
        {
            "i": "9223372036854775807", "f": 1.5, "b": True, "s": 'a "<b>&\n', "y": "AP8=", "d": "9999-12-31",
            "dt": "2024-01-02T03:04:05.000006", "t": "03:04:05", "ts": "2024-01-02 03:04:05.5 UTC", "n": "1.5",
        },
        {"i": "2"},
        {"i": "3", "s": ""},
    ]
    client.load_table_from_json(rows, made, job_config=bigquery.LoadJobConfig(schema=schema)).result()
    return made


@pytest.fixture(scope="module")
def nested(client, dataset):
    schema = [
        bigquery.SchemaField("k", "STRING", mode="REQUIRED"),
        bigquery.SchemaField("list", "INT64", mode="REPEATED"),
        bigquery.SchemaField("r", "RECORD", fields=[bigquery.SchemaField("x", "STRING")]),
        bigquery.SchemaField("rs", "RECORD", mode="REPEATED", fields=[bigquery.SchemaField("y", "DATE")]),
    ]
    made = client.create_table(bigquery.Table(f"{dataset.project}.{dataset.dataset_id}.nested", schema=schema))
    rows = [{"k": "a", "list": [1, 2], "r": {"x": "z"}, "rs": [{"y": "2024-01-02"}, {}]}, {"k": "b"}]
    client.load_table_from_json(rows, made, job_config=bigquery.LoadJobConfig(schema=schema)).result()
    return made


def extract(client, table, uris, **options):
    job = client.extract_table(table, uris, job_config=bigquery.ExtractJobConfig(**options))
    job.result()
    return job


def test_csv_has_a_header_and_bigquerys_texts(client, table, bucket):
    job = extract(client, table, f"gs://{bucket.name}/plain.csv")
    assert job.destination_uri_file_counts == [1]
    text = bucket.blob("plain.csv").download_as_text()
    assert text.splitlines()[0] == "i,f,b,s,y,d,dt,t,ts,n"
    assert "\n2,,,,,,,,,\n" in text and '\n3,,,"",,,,,,\n' in text
    rows = sorted(list(csv.DictReader(io.StringIO(text))), key=lambda row: int(row["i"]))
    assert rows[2] == {
        "i": "9223372036854775807", "f": "1.5", "b": "true", "s": 'a "<b>&\n', "y": "AP8=", "d": "9999-12-31",
        "dt": "2024-01-02T03:04:05.000006", "t": "03:04:05", "ts": "2024-01-02 03:04:05.500000 UTC", "n": "1.5",
    }


def test_csv_as_it_is_asked_for(client, table, bucket):
    extract(
        client, table, f"gs://{bucket.name}/plain.tsv.gz", compression="GZIP", field_delimiter="\t", print_header=False
    )
    # The object says nothing of its compression, so that it comes as it is.
    text = gzip.decompress(bucket.blob("plain.tsv.gz").download_as_bytes()).decode()
    assert "\n2\t\t\t\t\t\t\t\t\t\n" in "\n" + text
    assert "dt" not in text


def test_json_has_numbers_as_texts_and_no_nulls(client, table, nested, bucket):
    extract(client, table, f"gs://{bucket.name}/plain.json", destination_format="NEWLINE_DELIMITED_JSON")
    text = bucket.blob("plain.json").download_as_text()
    assert "\\u003cb\\u003e\\u0026" in text
    rows = sorted(map(json.loads, text.splitlines()), key=lambda row: int(row["i"]))
    assert rows[:2] == [{"i": "2"}, {"i": "3", "s": ""}]
    assert (rows[2]["i"], rows[2]["f"], rows[2]["b"], rows[2]["n"]) == ("9223372036854775807", 1.5, True, "1.5")
    assert rows[2]["ts"] == "2024-01-02 03:04:05.500000 UTC"
    extract(client, nested, f"gs://{bucket.name}/nested.json", destination_format="NEWLINE_DELIMITED_JSON")
    rows = sorted(map(json.loads, bucket.blob("nested.json").download_as_text().splitlines()), key=lambda r: r["k"])
    assert rows[0] == {"k": "a", "list": ["1", "2"], "r": {"x": "z"}, "rs": [{"y": "2024-01-02"}, {}]}
    assert rows[1] == {"k": "b", "list": [], "rs": []}


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "ZSTD"])
def test_parquet_is_read_by_others(client, table, nested, bucket, tmp_path, compression):
    for source, name in [(table, "plain"), (nested, "nested")]:
        uri = f"gs://{bucket.name}/{name}.parquet"
        extract(client, source, uri, destination_format="PARQUET", compression=compression)
        bucket.blob(f"{name}.parquet").download_to_filename(tmp_path / f"{name}.parquet")
    plain, nested = f"'{tmp_path}/plain.parquet'", f"'{tmp_path}/nested.parquet'"
    codecs = duckdb.sql(f"SELECT DISTINCT compression FROM parquet_metadata({plain})").fetchall()
    assert codecs == [("UNCOMPRESSED" if compression == "NONE" else compression,)]
    kinds = dict(duckdb.sql(f"SELECT column_name, column_type FROM (DESCRIBE FROM {plain})").fetchall())
    assert kinds == {
        "i": "BIGINT", "f": "DOUBLE", "b": "BOOLEAN", "s": "VARCHAR", "y": "BLOB", "d": "DATE", "dt": "TIMESTAMP",
        "t": "TIME", "ts": "TIMESTAMP WITH TIME ZONE", "n": "DECIMAL(38,9)",
    }
    rows = duckdb.sql(f"SELECT i, s, y, epoch_us(ts), n::VARCHAR FROM {plain} ORDER BY i").fetchall()
    assert rows == [
        (2, None, None, None, None),
        (3, "", None, None, None),
        (9223372036854775807, 'a "<b>&\n', b"\x00\xff", 1704164645500000, "1.500000000"),
    ]
    rows = duckdb.sql(f"SELECT k, list, r, rs FROM {nested} ORDER BY k").fetchall()
    assert rows[0] == ("a", [1, 2], {"x": "z"}, [{"y": datetime.date(2024, 1, 2)}, {"y": None}])
    assert rows[1][2] is None


@pytest.mark.parametrize("logical_types", [False, True])
@pytest.mark.parametrize("compression", ["NONE", "DEFLATE", "SNAPPY"])
def test_avro_is_read_by_others(client, table, nested, bucket, compression, logical_types):
    found = {}
    for source, name in [(table, "plain"), (nested, "nested")]:
        uri = f"gs://{bucket.name}/{name}.avro"
        options = {"compression": compression, "use_avro_logical_types": logical_types}
        extract(client, source, uri, destination_format="AVRO", **options)
        file = fastavro.reader(io.BytesIO(bucket.blob(f"{name}.avro").download_as_bytes()))
        assert file.metadata["avro.codec"] == {"NONE": "null"}.get(compression, compression.lower())
        if compression == "SNAPPY":
            return  # fastavro reads its header, and its rows only with another package
        found[name] = list(file)
    plain = sorted(found["plain"], key=lambda row: row["i"])
    assert plain[0] == {"i": 2, **dict.fromkeys(["f", "b", "s", "y", "d", "dt", "t", "ts", "n"])}
    assert (plain[2]["y"], plain[2]["s"], str(plain[2]["n"])) == (b"\x00\xff", 'a "<b>&\n', "1.500000000")
    assert plain[2]["ts"] == datetime.datetime(2024, 1, 2, 3, 4, 5, 500000, datetime.timezone.utc)
    assert plain[2]["dt"] == "2024-01-02T03:04:05.000006"
    dates = (datetime.date(9999, 12, 31), datetime.time(3, 4, 5)) if logical_types else ("9999-12-31", "03:04:05")
    assert (plain[2]["d"], plain[2]["t"]) == dates
    day = datetime.date(2024, 1, 2) if logical_types else "2024-01-02"
    assert sorted(found["nested"], key=lambda row: row["k"]) == [
        {"k": "a", "list": [1, 2], "r": {"x": "z"}, "rs": [{"y": day}, {"y": None}]},
        {"k": "b", "list": [], "r": None, "rs": []},
    ]


def test_a_wildcard_numbers_the_files_and_many_uris_share_the_rows(client, table, bucket):
    job = extract(client, table, f"gs://{bucket.name}/one-*.csv")
    assert job.destination_uri_file_counts == [1]
    assert [b.name for b in bucket.list_blobs(prefix="one-")] == ["one-000000000000.csv"]
    job = extract(client, table, [f"gs://{bucket.name}/{part}/*" for part in "ab"])
    assert len(job.destination_uri_file_counts) == 2
    lines = [
        line
        for part in "ab"
        for blob in bucket.list_blobs(prefix=f"{part}/")
        for line in csv.reader(io.StringIO(blob.download_as_text()))
        if line[0] != "i"
    ]
    assert len(lines) == 3


def test_a_partition_is_extracted_alone(client, dataset, bucket, table_name):
    made = bigquery.Table(table_name, schema=[bigquery.SchemaField("x", "INT64")])
    made.time_partitioning = bigquery.TimePartitioning()
    made = client.create_table(made)
    for day in [1, 2]:
        partition = f"{table_name}$2024010{day}"
        client.load_table_from_json([{"x": day}], partition, job_config=bigquery.LoadJobConfig(schema=made.schema)).result()
    extract(client, bigquery.TableReference.from_string(f"{table_name}$20240102"), f"gs://{bucket.name}/day.csv")
    assert bucket.blob("day.csv").download_as_text() == "x\n2\n"


def refused(client, error, table, uris, **options):
    with pytest.raises(error) as caught:
        extract(client, table, uris, **options)
    return caught.value


def test_what_cannot_be_is_refused(client, dataset, table, nested, bucket):
    error = refused(client, exceptions.NotFound, table, "gs://no-bucket-of-this-name-is-there/x.csv")
    assert error.errors[0]["reason"] == "notFound"
    error = refused(client, exceptions.BadRequest, nested, f"gs://{bucket.name}/x.csv")
    assert "nested" in error.message
    missing = dataset.table("nobody")
    assert refused(client, exceptions.NotFound, missing, f"gs://{bucket.name}/x.csv").errors[0]["reason"] == "notFound"
    refused(client, exceptions.BadRequest, table, f"gs://{bucket.name}/*/*.csv")
    refused(client, exceptions.BadRequest, table, [f"gs://{bucket.name}/x.csv", f"gs://{bucket.name}/y.csv"])
    refused(client, exceptions.BadRequest, table, f"gs://{bucket.name}/x.csv", compression="SNAPPY")
    refused(client, exceptions.BadRequest, table, f"gs://{bucket.name}/x.avro", destination_format="AVRO", compression="GZIP")
    assert bucket.get_blob("x.csv") is None


def test_files_of_this_machine(client, table, tmp_path, is_embedded):
    if not is_embedded:
        pytest.skip("only the embedded server has local files")
    extract(client, table, f"file://{tmp_path}/out-*.csv")
    assert (tmp_path / "out-000000000000.csv").read_text().startswith("i,f,b")
    refused(client, exceptions.NotFound, table, f"file://{tmp_path}/nobody/out.csv")
