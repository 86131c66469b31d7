"""Types at their limits: load, query, list rows, extract and load again, unchanged in every format."""

import datetime as dt
import io
from decimal import Decimal

import fastavro
import pytest
from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

UTC = dt.timezone.utc
PLAIN = [
    ("id", "INT64"),
    ("i", "INT64"),
    ("f", "FLOAT64"),
    ("b", "BOOL"),
    ("s", "STRING"),
    ("y", "BYTES"),
    ("d", "DATE"),
    ("ts", "TIMESTAMP"),
    ("dtm", "DATETIME"),
    ("t", "TIME"),
    ("n", "NUMERIC"),
]
# As JSON is loaded, and as the client gives it back.
VALUES = {
    "i": [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1), ("0", 0)],
    "f": [(5e-324, 5e-324), (1.7976931348623157e308, 1.7976931348623157e308), (-0.1, -0.1)],
    "b": [(True, True), (False, False), (True, True)],
    "s": [("", ""), ('a,"b"\n\t\\ <é&\U0001f600>', 'a,"b"\n\t\\ <é&\U0001f600>'), ("null", "null")],
    "y": [("AP8Q", b"\x00\xff\x10"), ("", b""), ("Zg==", b"f")],
    "d": [("0001-01-01", dt.date.min), ("9999-12-31", dt.date.max), ("1969-12-31", dt.date(1969, 12, 31))],
    "ts": [
        ("0001-01-01 00:00:00 UTC", dt.datetime.min.replace(tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999 UTC", dt.datetime.max.replace(tzinfo=UTC)),
        ("1969-12-31 23:59:59.999999 UTC", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    ],
    "dtm": [
        ("0001-01-01T00:00:00", dt.datetime.min),
        ("9999-12-31T23:59:59.999999", dt.datetime.max),
        ("2024-01-02T03:04:05", dt.datetime(2024, 1, 2, 3, 4, 5)),
    ],
    "t": [("00:00:00", dt.time.min), ("23:59:59.999999", dt.time.max), ("12:30:00", dt.time(12, 30))],
    "n": [
        ("-99999999999999999999999999999.999999999", Decimal("-99999999999999999999999999999.999999999")),
        ("99999999999999999999999999999.999999999", Decimal("99999999999999999999999999999.999999999")),
        ("0.000000001", Decimal("0.000000001")),
    ],
}
NESTED = [
    bigquery.SchemaField("list", "STRING", mode="REPEATED"),
    bigquery.SchemaField("r", "RECORD", fields=[
        bigquery.SchemaField("x", "INT64"),
        bigquery.SchemaField("days", "DATE", mode="REPEATED"),
    ]),
    bigquery.SchemaField("rs", "RECORD", mode="REPEATED", fields=[bigquery.SchemaField("k", "NUMERIC")]),
]
SENT_NESTED = [
    {"list": ["a", ""], "r": {"x": "9223372036854775807", "days": ["0001-01-01"]}, "rs": [{"k": "0.5"}, {}]},
    {"list": []},
    {"r": {}},
    {},
]
FOUND_NESTED = [
    {"list": ["a", ""], "r": {"x": 2**63 - 1, "days": [dt.date.min]}, "rs": [{"k": Decimal("0.5")}, {"k": None}]},
    {"list": [], "r": None, "rs": []},
    {"list": [], "r": {"x": None, "days": []}, "rs": []},
    {"list": [], "r": None, "rs": []},
]


def schema(with_nested):
    plain = [bigquery.SchemaField(name, kind) for name, kind in PLAIN]
    return plain + NESTED if with_nested else plain


def make(client, name, with_nested):
    """Three rows of limits and one of NULLs, loaded; and the rows that a client must see."""
    sent, expected = [], []
    for row in range(4):
        sent.append({"id": str(row)})
        expected.append({"id": row, **dict.fromkeys(VALUES)})
        if row < 3:
            sent[-1].update({column: values[row][0] for column, values in VALUES.items()})
            expected[-1].update({column: values[row][1] for column, values in VALUES.items()})
        if with_nested:
            sent[-1].update(SENT_NESTED[row])
            expected[-1].update(FOUND_NESTED[row])
    table = client.create_table(bigquery.Table(name, schema=schema(with_nested)))
    client.load_table_from_json(sent, table, job_config=bigquery.LoadJobConfig(schema=table.schema)).result()
    return table, expected


def rows(found):
    return sorted((dict(row.items()) for row in found), key=lambda row: row["id"])


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "nested"])
def source(request, client, dataset):
    return *make(client, f"{dataset.project}.{dataset.dataset_id}.limits{int(request.param)}", request.param), request.param


def test_what_was_loaded_is_listed_and_queried(client, source):
    table, expected, _ = source
    assert rows(client.list_rows(table)) == expected
    assert rows(client.query_and_wait(f"SELECT * FROM `{table.full_table_id.replace(':', '.')}`")) == expected


FORMATS = {
    "csv": ({"destination_format": "CSV"}, {"source_format": "CSV", "skip_leading_rows": 1, "allow_quoted_newlines": True}),
    "json": ({"destination_format": "NEWLINE_DELIMITED_JSON"}, {"source_format": "NEWLINE_DELIMITED_JSON"}),
    "json.gz": (
        {"destination_format": "NEWLINE_DELIMITED_JSON", "compression": "GZIP"},
        {"source_format": "NEWLINE_DELIMITED_JSON"},
    ),
    "parquet": ({"destination_format": "PARQUET", "compression": "ZSTD"}, {"source_format": "PARQUET"}),
    "avro": (
        {"destination_format": "AVRO", "compression": "SNAPPY", "use_avro_logical_types": True},
        {"source_format": "AVRO", "use_avro_logical_types": True},
    ),
    "deflate.avro": (
        {"destination_format": "AVRO", "compression": "DEFLATE", "use_avro_logical_types": True},
        {"source_format": "AVRO", "use_avro_logical_types": True},
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_extracted_is_loaded_unchanged(client, source, bucket, table_name, name):
    table, expected, is_nested = source
    if name == "csv" and is_nested:
        pytest.skip("CSV has no nested values")
    extract, load = FORMATS[name]
    uri = f"gs://{bucket.name}/{table.table_id}-*.{name}"
    client.extract_table(table, uri, job_config=bigquery.ExtractJobConfig(**extract)).result()
    config = bigquery.LoadJobConfig(**load)
    if load["source_format"] in ("CSV", "NEWLINE_DELIMITED_JSON"):
        config.schema = table.schema
    if load["source_format"] == "PARQUET":
        options = bigquery.format_options.ParquetOptions()
        options.enable_list_inference = True
        config.parquet_options = options
    client.load_table_from_uri(uri, table_name, job_config=config).result()
    loaded = client.get_table(table_name)
    assert [(f.name, f.field_type, f.mode) for f in loaded.schema] == [
        (f.name, f.field_type, f.mode) for f in client.get_table(table).schema
    ]
    assert rows(client.list_rows(loaded)) == expected
    # And into the table that is there.
    client.load_table_from_uri(uri, table_name, job_config=config).result()
    assert client.get_table(table_name).num_rows == 2 * len(expected)


def test_avro_without_logical_types_has_what_holds_them(client, source, bucket, table_name):
    table, expected, is_nested = source
    if is_nested:
        pytest.skip("once is enough")
    uri = f"gs://{bucket.name}/raw.avro"
    client.extract_table(table, uri, job_config=bigquery.ExtractJobConfig(destination_format="AVRO")).result()
    client.load_table_from_uri(uri, table_name, job_config=bigquery.LoadJobConfig(source_format="AVRO")).result()
    kinds = {field.name: field.field_type for field in client.get_table(table_name).schema}
    assert (kinds["d"], kinds["t"], kinds["dtm"], kinds["ts"]) == ("STRING", "STRING", "STRING", "INTEGER")
    assert kinds["n"] == "NUMERIC"
    loaded = rows(client.list_rows(table_name))
    assert (loaded[1]["d"], loaded[1]["ts"]) == ("9999-12-31", 253402300799999999)


def test_a_file_with_null_in_an_array_is_not_loaded(client, table_name):
    """It was, and nothing could be selected from the table."""
    array = {"type": "array", "items": ["null", "string"]}
    schema = {"type": "record", "name": "row", "fields": [{"name": "a", "type": array}]}
    config = bigquery.LoadJobConfig(source_format="AVRO")

    def load(rows):
        file = io.BytesIO()
        fastavro.writer(file, fastavro.parse_schema(schema), [{"a": row} for row in rows])
        file.seek(0)
        return client.load_table_from_file(file, table_name, job_config=config).result()

    assert load([["x", "y"], []]).output_rows == 2
    with pytest.raises(BadRequest):
        load([["z"], ["x", None]])
    assert [row.a for row in client.query(f"SELECT * FROM `{table_name}`").result()] == [["x", "y"], []]
