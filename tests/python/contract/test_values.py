"""Values of every type at their limits: through a load, a list of rows and a query."""

import datetime
import decimal
import json

import pytest
from google.api_core import exceptions
from google.cloud import bigquery

UTC = datetime.timezone.utc
NINES = "9" * 38

# Type, what is loaded, what comes back.
VALUES = [
    ("INTEGER", "9223372036854775807", 9223372036854775807),
    ("INTEGER", "-9223372036854775808", -9223372036854775808),
    ("FLOAT", "1.5", 1.5),
    ("FLOAT", "-1.7976931348623157e308", -1.7976931348623157e308),
    ("FLOAT", "+inf", float("inf")),
    ("BOOLEAN", True, True),
    ("BOOLEAN", "false", False),
    ("STRING", "", ""),
    ("STRING", "quote \" back\\slash \n \u0001 ü 😀", "quote \" back\\slash \n \u0001 ü 😀"),
    ("BYTES", "AP8Q", b"\x00\xff\x10"),
    ("DATE", "0001-01-01", datetime.date(1, 1, 1)),
    ("DATE", "9999-12-31", datetime.date(9999, 12, 31)),
    ("TIME", "23:59:59.999999", datetime.time(23, 59, 59, 999999)),
    ("TIME", "00:00:00", datetime.time(0, 0)),
    ("DATETIME", "9999-12-31T23:59:59.999999", datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("DATETIME", "0001-01-01 00:00:00", datetime.datetime(1, 1, 1)),
    ("TIMESTAMP", "0001-01-01T00:00:00Z", datetime.datetime(1, 1, 1, tzinfo=UTC)),
    (
        "TIMESTAMP",
        "9999-12-31 23:59:59.999999 UTC",
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ),
    ("TIMESTAMP", "2024-01-02 05:04:05+02:00", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ("NUMERIC", f"{NINES[:29]}.{NINES[:9]}", decimal.Decimal(f"{NINES[:29]}.{NINES[:9]}")),
    ("NUMERIC", "-0.000000001", decimal.Decimal("-0.000000001")),
    ("BIGNUMERIC", f"{NINES}.{NINES}", decimal.Decimal(f"{NINES}.{NINES}")),
    ("BIGNUMERIC", f"-0.{'0' * 37}1", decimal.Decimal(f"-0.{'0' * 37}1")),
    ("JSON", {"a": [1, None, {"b": "ü"}]}, {"a": [1, None, {"b": "ü"}]}),
    ("GEOGRAPHY", "POINT(-135.0000 90.0000)", "POINT(-135 90)"),
]


def test_every_type_at_its_limits(client, table_name):
    schema = [bigquery.SchemaField("i", "INTEGER")]
    schema += [bigquery.SchemaField(f"c{i}", kind) for i, (kind, _, _) in enumerate(VALUES)]
    full = {"i": 0} | {f"c{i}": given for i, (_, given, _) in enumerate(VALUES)}
    config = bigquery.LoadJobConfig(schema=schema, source_format="NEWLINE_DELIMITED_JSON")
    job = client.load_table_from_json([full, {"i": 1}], table_name, job_config=config).result()
    assert job.output_rows == 2
    expected = {f"c{i}": value for i, (_, _, value) in enumerate(VALUES)}
    listed = sorted(client.list_rows(table_name), key=lambda row: row["i"])
    for row in (listed[0], *client.query_and_wait(f"SELECT * FROM `{table_name}` WHERE i = 0")):
        assert {name: row[name] for name in expected} == expected
    assert set(listed[1].values()) == {1, None}
    fields = client.get_table(table_name).schema
    assert [field.field_type for field in fields[1:]] == [kind for kind, _, _ in VALUES]


def test_not_a_number_is_a_float(client, table_name):
    config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField("f", "FLOAT")])
    client.load_table_from_json([{"f": "nan"}], table_name, job_config=config).result()
    [row] = client.list_rows(table_name)
    assert row["f"] != row["f"]


def test_intervals_and_ranges(client, table_name):
    schema = [
        bigquery.SchemaField("i", "INTERVAL"),
        bigquery.SchemaField("d", "RANGE", range_element_type="DATE"),
        bigquery.SchemaField("t", "RANGE", range_element_type="TIMESTAMP"),
    ]
    table = client.create_table(bigquery.Table(table_name, schema=schema))
    assert [f.range_element_type and f.range_element_type.element_type for f in table.schema] == [
        None,
        "DATE",
        "TIMESTAMP",
    ]
    row = {
        "i": "1-2 3 4:5:6.5",
        "d": {"start": "2020-01-01", "end": None},
        "t": {"start": None, "end": "2024-01-02T03:04:05Z"},
    }
    assert client.insert_rows_json(table, [row]) == []
    [found] = client.list_rows(table)
    assert (found["i"].years, found["i"].months, found["i"].days, found["i"].hours) == (1, 2, 3, 4)
    assert (found["i"].minutes, found["i"].seconds, found["i"].microseconds) == (5, 6, 500000)
    assert found["d"] == {"start": datetime.date(2020, 1, 1), "end": None}
    end = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found["t"] == {"start": None, "end": end}


NESTED = [
    bigquery.SchemaField("id", "INTEGER", mode="REQUIRED"),
    bigquery.SchemaField(
        "e",
        "RECORD",
        mode="REPEATED",
        fields=[
            bigquery.SchemaField("d", "DATE"),
            bigquery.SchemaField("x", "RECORD", fields=[bigquery.SchemaField("n", "NUMERIC", mode="REPEATED")]),
        ],
    ),
]


@pytest.fixture
def nested(client, table_name):
    config = bigquery.LoadJobConfig(schema=NESTED, source_format="NEWLINE_DELIMITED_JSON")
    rows = [
        {"id": 1, "e": [{"d": "2024-01-02", "x": {"n": ["1.50", 2]}}, {"d": None}]},
        {"id": 2, "e": []},
        {"id": 3},
    ]
    client.load_table_from_json(rows, table_name, job_config=config).result()
    return client.get_table(table_name)


def test_records_nest_and_repeat(client, nested):
    assert nested.schema == NESTED
    rows = sorted((dict(row) for row in client.list_rows(nested)), key=lambda row: row["id"])
    first = {
        "d": datetime.date(2024, 1, 2),
        "x": {"n": [decimal.Decimal("1.5"), decimal.Decimal(2)]},
    }
    assert rows[0] == {"id": 1, "e": [first, {"d": None, "x": None}]}
    assert rows[1:] == [{"id": 2, "e": []}, {"id": 3, "e": []}]


def test_nested_fields_can_be_selected(client, nested):
    call = client._connection.api_request
    page = call(method="GET", path=f"{nested.path}/data", query_params={"selectedFields": "e.d", "maxResults": 1})
    assert page["totalRows"] == "3"
    cells = [{"v": {"f": [{"v": "2024-01-02"}]}}, {"v": {"f": [{"v": None}]}}]
    assert page["rows"] == [{"f": [{"v": cells}]}]
    with pytest.raises(exceptions.BadRequest, match="No such field"):
        call(method="GET", path=f"{nested.path}/data", query_params={"selectedFields": "e.zzz"})


def test_timestamps_are_written_as_asked(client, table_name):
    config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField("t", "TIMESTAMP")])
    client.load_table_from_json([{"t": "2024-01-02T03:04:05.123456Z"}], table_name, job_config=config).result()
    path = client.get_table(table_name).path + "/data"

    def shown(**arguments):
        page = client._connection.api_request(method="GET", path=path, query_params=arguments)
        return page["rows"][0]["f"][0]["v"]

    assert shown() == "1.704164645123456E9"
    assert shown(**{"formatOptions.useInt64Timestamp": True}) == "1704164645123456"
    assert shown(**{"formatOptions.timestampOutputFormat": "INT64"}) == "1704164645123456"
    assert shown(**{"formatOptions.timestampOutputFormat": "ISO8601_STRING"}).startswith("2024-01-02T03:04:05.123456")


def test_pages_begin_and_end_where_they_are_told(client, table_name):
    config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField("n", "INTEGER")])
    client.load_table_from_json([{"n": n} for n in range(10)], table_name, job_config=config).result()
    all_rows = [row["n"] for row in client.list_rows(table_name)]
    assert sorted(all_rows) == list(range(10))
    assert [row["n"] for row in client.list_rows(table_name, start_index=7)] == all_rows[7:]
    assert [row["n"] for row in client.list_rows(table_name, max_results=3)] == all_rows[:3]
    pages = [[row["n"] for row in page] for page in client.list_rows(table_name, page_size=4).pages]
    assert [len(page) for page in pages] == [4, 4, 2]
    assert sum(pages, []) == all_rows


def test_a_schema_comes_back_as_it_was_given(client, table_name):
    schema = [
        bigquery.SchemaField("s", "STRING", description="words", max_length=7),
        bigquery.SchemaField("b", "BYTES", max_length=8),
        bigquery.SchemaField("n", "NUMERIC", precision=5, scale=2, rounding_mode="ROUND_HALF_EVEN"),
        bigquery.SchemaField("d", "DATE", default_value_expression="CURRENT_DATE()"),
    ]
    made = client.create_table(bigquery.Table(table_name, schema=schema))
    assert made.schema == schema
    assert client.get_table(table_name).schema == schema


@pytest.mark.parametrize(
    "field",
    [
        {"name": "a", "type": "DATE", "maxLength": "5"},
        {"name": "a", "type": "NUMERIC", "precision": "40"},
        {"name": "a", "type": "RANGE"},
        {"name": "a", "type": "TEXTUAL"},
        {"name": "a", "type": "RECORD"},
    ],
    ids=json.dumps,
)
def test_schemas_that_make_no_sense_are_refused(client, table_name, field):
    table = bigquery.Table(table_name)
    table._properties["schema"] = {"fields": [field]}
    with pytest.raises(exceptions.BadRequest):
        client.create_table(table)
