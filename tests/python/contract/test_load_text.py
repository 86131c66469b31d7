"""Load jobs of CSV and newline-delimited JSON: options, autodetection, bad rows, schema changes."""

import datetime
import gzip
import io
import re

import pytest
from google.api_core import exceptions
from google.cloud import bigquery

TWO = [bigquery.SchemaField("n", "INTEGER"), bigquery.SchemaField("s", "STRING")]


def load(client, table, text, source_format="CSV", **options):
    data = text if isinstance(text, bytes) else text.encode()
    config = bigquery.LoadJobConfig(source_format=source_format, **options)
    job = client.load_table_from_file(io.BytesIO(data), table, size=len(data), job_config=config)
    return job.result()


def rows(client, table):
    return sorted((tuple(row.values()) for row in client.list_rows(table)), key=repr)


def described(client, table):
    return [(f.name, f.field_type, f.mode) for f in client.get_table(table).schema]


def test_csv_tells_nothing_from_an_empty_text(client, table_name):
    load(client, table_name, '1,a\n2,\n3,""\n,"x,""y"""\r\n', schema=TWO)
    assert rows(client, table_name) == [(1, "a"), (2, None), (3, ""), (None, 'x,"y"')]


def test_csv_options(client, table_name):
    text = "head|er\n1|'a\nb'\nNA|c|more\n3\n"
    load(
        client, table_name, text, schema=TWO, skip_leading_rows=1, field_delimiter="|", quote_character="'",
        allow_quoted_newlines=True, null_marker="NA", ignore_unknown_values=True, allow_jagged_rows=True,
    )
    assert rows(client, table_name) == [(1, "a\nb"), (3, None), (None, "c")]


@pytest.mark.parametrize("encoding, codec", [("ISO-8859-1", "latin-1"), ("UTF-16LE", "utf-16-le"), ("UTF-32BE", "utf-32-be")])
def test_encodings(client, table_name, encoding, codec):
    load(client, table_name, "1,äöü\n".encode(codec), schema=TWO, encoding=encoding)
    assert rows(client, table_name) == [(1, "äöü")]


def test_tabs_and_gzip(client, table_name):
    load(client, table_name, gzip.compress(b"1\ta\n2\tb\n"), schema=TWO, field_delimiter="\t")
    assert rows(client, table_name) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    "text, message",
    [
        ("1,a\nx,b\n", "line_number: 2.*column_name: \"n\".*value: \"x\""),
        ("1,a,c\n", "Too many values"),
        ("1\n", "contains only 1 columns"),
        ('1,"a\n', "[Cc]lose"),
        ("1,a\0\n", "ASCII 0"),
    ],
)
def test_a_bad_row_fails_the_job_and_stores_nothing(client, table_name, text, message):
    client.create_table(bigquery.Table(table_name, schema=TWO))
    config = bigquery.LoadJobConfig(source_format="CSV", schema=TWO)
    data = text.encode()
    job = client.load_table_from_file(io.BytesIO(data), table_name, size=len(data), job_config=config)
    with pytest.raises(exceptions.BadRequest):
        job.result()
    assert job.error_result["reason"] == "invalid"
    [found] = [e for e in job.errors if re.search(message, e["message"])]
    assert found["reason"] == "invalid"
    assert client.get_table(table_name).num_rows == 0


def test_some_bad_rows_can_be_left_out(client, table_name):
    job = load(client, table_name, "1,a\nx,b\n3,c\n", schema=TWO, max_bad_records=1)
    assert (job.output_rows, len(job.errors)) == (2, 1)
    assert job._properties["statistics"]["load"]["badRecords"] == "1"
    assert rows(client, table_name) == [(1, "a"), (3, "c")]
    with pytest.raises(exceptions.BadRequest, match="too many errors"):
        load(client, table_name, "x,a\ny,b\n3,c\n", schema=TWO, max_bad_records=1)


def test_json_rows(client, table_name):
    text = '{"n": 1, "s": "a"}\n\n{"N": "2"}\n{"s": 3.5, "n": null}'
    load(client, table_name, text, "NEWLINE_DELIMITED_JSON", schema=TWO)
    assert rows(client, table_name) == [(1, "a"), (2, None), (None, "3.5")]


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"n": 1, "zzz": 2}', "No such field: zzz"),
        ('{"n": "x"}', "Could not convert value"),
        ('{"n": [1]}', "non-repeated"),
        ('{"n": 1', "[Pp]arser"),
        ("[1]", "array"),
    ],
)
def test_bad_json_rows(client, table_name, text, message):
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=TWO)
    data = ('{"n": 1}\n' + text + "\n").encode()
    job = client.load_table_from_file(io.BytesIO(data), table_name, size=len(data), job_config=config)
    with pytest.raises(exceptions.BadRequest):
        job.result()
    shown = " ".join(error["message"] for error in job.errors)
    assert "row starting at position 9" in shown
    assert re.search(message, shown)


def test_unknown_json_fields_can_be_ignored(client, table_name):
    load(client, table_name, '{"n": 1, "z": {"y": []}}', "NEWLINE_DELIMITED_JSON", schema=TWO, ignore_unknown_values=True)
    assert rows(client, table_name) == [(1, None)]


def test_csv_columns_are_detected_with_a_header(client, table_name):
    text = "id,name,at,on,ok,price\n1,a,2024-01-02 03:04:05 UTC,2024-01-02,true,1.5\n2,b,2024-01-02 03:04:05 UTC,2024-01-03,false,2\n"
    load(client, table_name, text, autodetect=True)
    assert described(client, table_name) == [
        ("id", "INTEGER", "NULLABLE"),
        ("name", "STRING", "NULLABLE"),
        ("at", "TIMESTAMP", "NULLABLE"),
        ("on", "DATE", "NULLABLE"),
        ("ok", "BOOLEAN", "NULLABLE"),
        ("price", "FLOAT", "NULLABLE"),
    ]
    at = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    assert rows(client, table_name)[0] == (1, "a", at, datetime.date(2024, 1, 2), True, 1.5)


def test_csv_columns_are_detected_without_a_header(client, table_name):
    load(client, table_name, "1|a\n2|b\n", autodetect=True)
    assert [(kind, mode) for _, kind, mode in described(client, table_name)] == [
        ("INTEGER", "NULLABLE"),
        ("STRING", "NULLABLE"),
    ]
    assert rows(client, table_name) == [(1, "a"), (2, "b")]


def test_json_columns_are_detected_nested_and_repeated(client, table_name):
    text = '{"n": 1, "r": {"d": "2024-01-02", "t": [1, 2.5]}}\n{"n": 2, "e": [{"b": true}]}\n'
    load(client, table_name, text, "NEWLINE_DELIMITED_JSON", autodetect=True)
    fields = {f.name: f for f in client.get_table(table_name).schema}
    assert (fields["n"].field_type, fields["r"].field_type, fields["e"].mode) == ("INTEGER", "RECORD", "REPEATED")
    inner = {f.name: (f.field_type, f.mode) for f in fields["r"].fields}
    assert inner == {"d": ("DATE", "NULLABLE"), "t": ("FLOAT", "REPEATED")}
    found = sorted((dict(row) for row in client.list_rows(table_name)), key=lambda row: row["n"])
    assert found[0]["r"] == {"d": datetime.date(2024, 1, 2), "t": [1.0, 2.5]}
    assert found[1]["e"] == [{"b": True}]


def test_a_job_needs_a_schema_from_somewhere(client, table_name):
    with pytest.raises(exceptions.BadRequest, match="[Ss]chema"):
        load(client, table_name, "1,a\n")


def test_nested_columns_are_no_csv(client, table_name):
    schema = [bigquery.SchemaField("t", "STRING", mode="REPEATED")]
    with pytest.raises(exceptions.BadRequest, match="[Rr]epeated"):
        load(client, table_name, "a\n", schema=schema)


def test_columns_are_added_and_relaxed_when_allowed(client, table_name):
    required = [bigquery.SchemaField("n", "INTEGER", mode="REQUIRED")]
    client.create_table(bigquery.Table(table_name, schema=required))
    load(client, table_name, '{"n": 1}', "NEWLINE_DELIMITED_JSON")
    wider = required + [bigquery.SchemaField("s", "STRING")]
    text = '{"n": 2, "s": "b"}'
    with pytest.raises(exceptions.BadRequest, match="Cannot add fields"):
        load(client, table_name, text, "NEWLINE_DELIMITED_JSON", schema=wider)
    load(
        client, table_name, text, "NEWLINE_DELIMITED_JSON", schema=wider,
        write_disposition="WRITE_APPEND", schema_update_options=["ALLOW_FIELD_ADDITION"],
    )
    with pytest.raises(exceptions.BadRequest):
        load(client, table_name, '{"s": "c"}', "NEWLINE_DELIMITED_JSON")
    load(
        client, table_name, '{"s": "c"}', "NEWLINE_DELIMITED_JSON", schema=TWO,
        write_disposition="WRITE_APPEND", schema_update_options=["ALLOW_FIELD_RELAXATION"],
    )
    assert described(client, table_name) == [("n", "INTEGER", "NULLABLE"), ("s", "STRING", "NULLABLE")]
    assert rows(client, table_name) == [(1, None), (2, "b"), (None, "c")]
    with pytest.raises(exceptions.BadRequest, match="[Ss]chema update options"):
        load(
            client, table_name, text, "NEWLINE_DELIMITED_JSON", schema=TWO,
            write_disposition="WRITE_TRUNCATE", schema_update_options=["ALLOW_FIELD_ADDITION"],
        )


def test_nested_fields_are_added(client, table_name):
    load(client, table_name, '{"r": {"a": 1}}', "NEWLINE_DELIMITED_JSON", autodetect=True)
    load(
        client, table_name, '{"r": {"a": 2, "b": "x"}}', "NEWLINE_DELIMITED_JSON", autodetect=True,
        write_disposition="WRITE_APPEND", schema_update_options=["ALLOW_FIELD_ADDITION"],
    )
    assert rows(client, table_name) == [({"a": 1, "b": None},), ({"a": 2, "b": "x"},)]


def test_write_dispositions(client, table_name):
    load(client, table_name, "1,a\n", schema=TWO)
    load(client, table_name, "2,b\n", schema=TWO, write_disposition="WRITE_TRUNCATE")
    assert rows(client, table_name) == [(2, "b")]
    load(client, table_name, "3,c\n", write_disposition="WRITE_TRUNCATE_DATA")
    assert rows(client, table_name) == [(3, "c")]
    with pytest.raises(exceptions.Conflict):
        load(client, table_name, "4,d\n", write_disposition="WRITE_EMPTY")
    load(client, table_name, "5,e\n", write_disposition="WRITE_APPEND")
    assert rows(client, table_name) == [(3, "c"), (5, "e")]


def test_objects_of_a_bucket(client, table_name, bucket):
    for name, text in {"a1.csv": "1,a\n", "a2.csv": "2,b\n", "b.csv": "3,c\n"}.items():
        bucket.blob(f"text/{name}").upload_from_string(text)
    config = bigquery.LoadJobConfig(source_format="CSV", schema=TWO)
    uris = [f"gs://{bucket.name}/text/a*.csv", f"gs://{bucket.name}/text/b.csv"]
    job = client.load_table_from_uri(uris, table_name, job_config=config).result()
    assert (job.output_rows, job.input_files, job.input_file_bytes) == (3, 3, 12)
    bad = client.load_table_from_uri(
        uris[1], table_name, job_config=bigquery.LoadJobConfig(schema=[TWO[0]], source_format="CSV")
    )
    with pytest.raises(exceptions.BadRequest):
        bad.result()
    assert uris[1] in bad.errors[-1]["message"]
    with pytest.raises(exceptions.NotFound):
        client.load_table_from_uri(f"gs://{bucket.name}/none*.csv", table_name, job_config=config).result()


def test_dry_run_stores_nothing(client, table_name):
    config = bigquery.LoadJobConfig(source_format="CSV", schema=TWO)
    config._properties["dryRun"] = True
    load_config = config.to_api_repr()
    reference = bigquery.TableReference.from_string(table_name).to_api_repr()
    load_config["load"] |= {"destinationTable": reference, "sourceUris": ["gs://no-such-bucket-here/x.csv"]}
    path = f"/projects/{client.project}/jobs"
    client._connection.api_request(
        method="POST", path=path, data={"configuration": {"load": load_config["load"], "dryRun": True}}
    )
    with pytest.raises(exceptions.NotFound):
        client.get_table(table_name)
