"""GoogleSQL queries: parameters of every type, arrays and structs, tables of the past and by wildcard, errors."""

import datetime
import decimal
import time

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter, StructQueryParameter

UTC = datetime.timezone.utc


def rows(client, sql, *parameters, dataset=None):
    config = bigquery.QueryJobConfig(query_parameters=list(parameters))
    if dataset is not None:
        config.default_dataset = dataset.reference
    return [tuple(row.values()) for row in client.query(sql, job_config=config).result()]


def error(client, sql, *parameters):
    with pytest.raises(BadRequest) as raised:
        rows(client, sql, *parameters)
    assert raised.value.errors[0]["reason"] == "invalidQuery"
    return raised.value.errors[0]["message"]


@pytest.mark.parametrize(
    "kind, value",
    [
        ("INT64", -(2**63)),
        ("FLOAT64", 1.5),
        ("BOOL", True),
        ("STRING", "it's\n\"x\""),
        ("BYTES", b"\x00\xff"),
        ("NUMERIC", decimal.Decimal("123456789.123456789")),
        ("BIGNUMERIC", decimal.Decimal("1.00000000000000000000000000000000000001")),
        ("DATE", datetime.date(1, 1, 1)),
        ("TIME", datetime.time(1, 2, 3, 4)),
        ("DATETIME", datetime.datetime(2024, 1, 2, 3, 4, 5, 6)),
        ("TIMESTAMP", datetime.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ],
)
def test_a_parameter_comes_back_as_it_was_sent(client, kind, value):
    named = rows(client, "SELECT @x, @x IS NULL", ScalarQueryParameter("x", kind, value))
    assert named == [(value, False)]
    assert rows(client, "SELECT ?", ScalarQueryParameter(None, kind, value)) == [(value,)]
    assert rows(client, "SELECT @x", ScalarQueryParameter("x", kind, None)) == [(None,)]
    assert rows(client, "SELECT @x", ArrayQueryParameter("x", kind, [value, value])) == [([value, value],)]
    assert rows(client, "SELECT ARRAY_LENGTH(@x)", ArrayQueryParameter("x", kind, [])) == [(0,)]


def test_structs_and_arrays_of_them_as_parameters(client):
    point = StructQueryParameter(
        "p", ScalarQueryParameter("x", "INT64", 1), ArrayQueryParameter("tags", "STRING", ["a", "b"])
    )
    assert rows(client, "SELECT @p, @p.x, @P.tags[OFFSET(1)]", point) == [({"x": 1, "tags": ["a", "b"]}, 1, "b")]
    pairs = ArrayQueryParameter(
        "pairs", "STRUCT", [StructQueryParameter(None, ScalarQueryParameter("n", "INT64", n)) for n in (2, 1)]
    )
    assert rows(client, "SELECT n FROM UNNEST(@pairs) ORDER BY n", pairs) == [(1,), (2,)]


def test_a_missing_parameter_is_named(client):
    assert "x" in error(client, "SELECT @x")


def test_the_schema_of_a_result(client):
    sql = "SELECT 1 AS Id, [1.5] AS f, STRUCT('x' AS a, [STRUCT(TRUE AS b)] AS c) AS s, NUMERIC '1', NULL"
    schema = client.query(sql).result().schema
    found = [(field.name, field.field_type, field.mode) for field in schema]
    assert found == [
        ("Id", "INTEGER", "NULLABLE"),
        ("f", "FLOAT", "REPEATED"),
        ("s", "RECORD", "NULLABLE"),
        ("f0_", "NUMERIC", "NULLABLE"),
        ("f1_", "INTEGER", "NULLABLE"),
    ]
    assert [(f.name, f.field_type, f.mode) for f in schema[2].fields] == [
        ("a", "STRING", "NULLABLE"),
        ("c", "RECORD", "REPEATED"),
    ]


@pytest.mark.parametrize(
    "sql, expected",
    [
        ("SELECT 7 / 2, DIV(7, 2), MOD(-7, 3), ROUND(2.5), ROUND(-2.5)", (3.5, 3, -1, 3.0, -3.0)),
        ("SELECT CAST(TIMESTAMP '2026-11-01' AS STRING)", ("2026-11-01 00:00:00+00",)),
        (r"SELECT r'a\d', 'a\x41', b'\xff', '''it's'''", ("a\\d", "aA", b"\xff", "it's")),
        ("SELECT (1, 'a'), STRUCT(1 AS A).a", ({"_field_1": 1, "_field_2": "a"}, 1)),
        ("SELECT [1, 2, 3][OFFSET(1)], [1][SAFE_OFFSET(5)], ARRAY_LENGTH([1, 2])", (2, None, 2)),
        ("SELECT ARRAY(SELECT x * x FROM UNNEST(GENERATE_ARRAY(1, 3)) AS x ORDER BY x DESC)", ([9, 4, 1],)),
        ("SELECT 3 IN UNNEST([1, 3]), 4 NOT IN UNNEST([1, 3])", (True, True)),
        ("SELECT REGEXP_EXTRACT('a@b.c', r'@(\\w+)'), SPLIT('a,b'), SUBSTR('abc', -2)", ("b", ["a", "b"], "bc")),
        ("SELECT SAFE_DIVIDE(1, 0), SAFE_CAST('x' AS INT64), SAFE.LN(-1)", (None, None, None)),
        ("SELECT TO_HEX(MD5('abc')), TO_BASE64(b'abc')", ("900150983cd24fb0d6963f7d28e17f72", "YWJj")),
        (
            "SELECT DATE_TRUNC(DATE '2024-05-15', WEEK(MONDAY)), LAST_DAY(DATE '2024-02-05'), "
            "DATE_DIFF(DATE '2024-03-01', DATE '2024-02-01', DAY), EXTRACT(ISOWEEK FROM DATE '2024-12-30')",
            (datetime.date(2024, 5, 13), datetime.date(2024, 2, 29), 29, 1),
        ),
        (
            "SELECT TIMESTAMP('2024-07-01 12:00:00', 'Europe/Berlin'), DATETIME(TIMESTAMP '2024-01-01', 'Asia/Tokyo')",
            (datetime.datetime(2024, 7, 1, 10, tzinfo=UTC), datetime.datetime(2024, 1, 1, 9)),
        ),
        (
            "SELECT FORMAT_TIMESTAMP('%F %T', TIMESTAMP '2024-01-05 01:02:03'), PARSE_DATE('%d.%m.%Y', '05.01.2024')",
            ("2024-01-05 01:02:03", datetime.date(2024, 1, 5)),
        ),
        ("SELECT JSON_VALUE('{\"a\": {\"b\": 1}}', '$.a.b'), TO_JSON_STRING(STRUCT(1 AS a))", ("1", '{"a":1}')),
    ],
)
def test_what_a_query_answers(client, sql, expected):
    assert rows(client, sql) == [expected]


def test_arrays_of_a_table_are_joined_with_it(client, table_name):
    schema = [
        bigquery.SchemaField("id", "INT64"),
        bigquery.SchemaField("Tags", "STRING", mode="REPEATED"),
        bigquery.SchemaField(
            "items", "RECORD", mode="REPEATED", fields=[bigquery.SchemaField("Sku", "STRING"), bigquery.SchemaField("n", "INT64")]
        ),
    ]
    documents = [
        {"id": 1, "Tags": ["a", "b"], "items": [{"Sku": "x", "n": 1}, {"Sku": "y", "n": 2}]},
        {"id": 2, "Tags": [], "items": []},
        {"id": 3, "Tags": ["c"], "items": [{"Sku": "x", "n": 5}]},
    ]
    config = bigquery.LoadJobConfig(schema=schema)
    client.load_table_from_json(documents, table_name, job_config=config).result()

    def ask(select):
        return rows(client, select.replace("$t", f"`{table_name}`"))

    assert ask("SELECT id, tag FROM $t AS t, UNNEST(t.tags) AS tag ORDER BY id, tag") == [(1, "a"), (1, "b"), (3, "c")]
    assert ask("SELECT id, tag, o FROM $t LEFT JOIN UNNEST(Tags) AS tag WITH OFFSET AS o ORDER BY id, o") == [
        (1, "a", 0),
        (1, "b", 1),
        (2, None, None),
        (3, "c", 0),
    ]
    assert ask("SELECT sku, SUM(i.n) AS n FROM $t, UNNEST(items) AS i GROUP BY sku ORDER BY sku") == [("x", 6), ("y", 2)]
    assert ask("SELECT id, (SELECT SUM(n) FROM UNNEST(items)) AS n FROM $t ORDER BY id") == [(1, 3), (2, None), (3, 5)]
    assert ask("SELECT id FROM $t WHERE 'b' IN UNNEST(tags)") == [(1,)]
    assert ask("SELECT id FROM $t WHERE EXISTS(SELECT 1 FROM UNNEST(items) WHERE n > 4)") == [(3,)]
    assert ask("SELECT id, items[SAFE_OFFSET(0)].sku FROM $t ORDER BY id") == [(1, "x"), (2, None), (3, "x")]
    latest = "SELECT AS VALUE ARRAY_AGG(t ORDER BY id DESC LIMIT 1)[OFFSET(0)] FROM $t AS t"
    assert ask(f"SELECT id, tags FROM ({latest})") == [(3, ["c"])]


def test_a_table_as_it_was(client, table_name):
    client.query(f"CREATE TABLE `{table_name}` AS SELECT 1 AS x").result()
    created = client.get_table(table_name).modified
    time.sleep(0.05)
    client.query(f"INSERT `{table_name}` (x) VALUES (2)").result()
    assert rows(client, f"SELECT x FROM `{table_name}` ORDER BY x") == [(1,), (2,)]
    at = ScalarQueryParameter("at", "TIMESTAMP", created + datetime.timedelta(milliseconds=1))
    assert rows(client, f"SELECT x FROM `{table_name}` FOR SYSTEM_TIME AS OF @at", at) == [(1,)]


def test_tables_by_wildcard(client, dataset):
    for day, value in (("20240101", 1), ("20240102", 2)):
        name = f"{dataset.project}.{dataset.dataset_id}.events_{day}"
        client.query(f"CREATE TABLE `{name}` AS SELECT {value} AS x").result()
    wild = f"`{dataset.project}.{dataset.dataset_id}.events_*`"
    assert rows(client, f"SELECT _TABLE_SUFFIX AS suffix, x FROM {wild} ORDER BY x") == [("20240101", 1), ("20240102", 2)]
    assert rows(client, f"SELECT x FROM {wild} WHERE _TABLE_SUFFIX = '20240102'") == [(2,)]


@pytest.mark.parametrize(
    "sql, words",
    [
        ("SELECT nme FROM (SELECT 1 AS name)", "Unrecognized name: nme"),
        ("SELECT nosuch(1)", "Function not found: nosuch"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT 9223372036854775807 + 1", "int64 overflow"),
        ("SELECT 1 UNION SELECT 2", "ALL or keyword DISTINCT"),
        ("SELECT [1][OFFSET(3)]", "Array index 3 is out of bounds"),
        ("SELECT CAST('x' AS INT64)", "Bad int64 value: x"),
        ("SELECT DATE '2024-13-01'", "Invalid DATE"),
        ("SELECT ['a', NULL]", "Array cannot have a null element"),
        ("SELEC 1", "Syntax error"),
    ],
)
def test_mistakes_in_bigquerys_words(client, sql, words):
    assert words.lower() in error(client, sql).lower()


def test_an_unknown_table_is_not_found(client, dataset):
    with pytest.raises(NotFound) as raised:
        rows(client, "SELECT * FROM nowhere", dataset=dataset)
    assert raised.value.errors[0]["reason"] == "notFound"
