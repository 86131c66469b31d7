"""The same rows from BigQuery and from DuckDB, for queries that mean the same in both.

Tables and queries are random; API2BQ_DUCKDB_SEED repeats a run and API2BQ_DUCKDB_CASES sets how many queries
are asked.
"""

import datetime
import decimal
import math
import os
import random
import re

import pytest
from google.cloud import bigquery

duckdb = pytest.importorskip("duckdb")

CASES = int(os.environ.get("API2BQ_DUCKDB_CASES", "60"))
SEED = int(os.environ.get("API2BQ_DUCKDB_SEED", random.SystemRandom().randrange(2**32)))
COLUMNS = [
    ("k", "INT64", "BIGINT"),
    ("i", "INT64", "BIGINT"),
    ("f", "FLOAT64", "DOUBLE"),
    ("s", "STRING", "VARCHAR"),
    ("d", "DATE", "DATE"),
    ("b", "BOOL", "BOOLEAN"),
]


def value(chance, kind):
    if chance.random() < 0.2:
        return None
    return {
        "INT64": lambda: chance.randint(-5, 5),
        "FLOAT64": lambda: chance.randint(-8, 8) / 4,
        "STRING": lambda: chance.choice(["", "a", "B", "ab", "a b", "é", "zz"]),
        "DATE": lambda: datetime.date(2023, 12, 25) + datetime.timedelta(days=chance.randint(0, 70)),
        "BOOL": lambda: chance.random() < 0.5,
    }[kind]()


@pytest.fixture(scope="module")
def tables(client, dataset):
    """Two tables of the same rows on both sides: what to write for them in SQL, and DuckDB."""
    chance, here = random.Random(SEED), duckdb.connect()
    print(f"API2BQ_DUCKDB_SEED={SEED}")
    # NULL is the smallest value in BigQuery.
    here.execute("SET default_null_order = 'nulls_first'")
    names = {}
    for table in ("t", "u"):
        drawn = [[value(chance, kind) for _, kind, _ in COLUMNS] for _ in range(chance.randint(20, 60))]
        drawn += [list(row) for row in drawn[:5]]
        here.execute(f"CREATE TABLE {table} ({', '.join(f'{n} {duck}' for n, _, duck in COLUMNS)})")
        here.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)", drawn)
        documents = [
            {n: v.isoformat() if isinstance(v, datetime.date) else v for (n, _, _), v in zip(COLUMNS, row)}
            for row in drawn
        ]
        names[table] = f"{dataset.project}.{dataset.dataset_id}.duck_{table}"
        config = bigquery.LoadJobConfig(schema=[bigquery.SchemaField(n, kind) for n, kind, _ in COLUMNS])
        client.load_table_from_json(documents, names[table], job_config=config).result()
    return names, here


class Writer:
    """Draws queries whose words mean the same on both sides."""

    def __init__(self, chance):
        self.chance = chance

    def number(self, t, depth=2):
        c = self.chance
        if depth == 0 or c.random() < 0.4:
            return c.choice([f"{t}.k", f"{t}.i", f"{t}.f", str(c.randint(-4, 4)), "0.5"])
        a, b = self.number(t, depth - 1), self.number(t, depth - 1)
        return c.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} * {b})",
                f"({a} / NULLIF({b}, 0))",
                f"COALESCE({a}, {b})",
                f"ABS({a})",
                f"CASE WHEN {self.condition(t, 0)} THEN {a} ELSE {b} END",
                f"CAST(LENGTH({t}.s) AS BIGINT)",
            ]
        )

    def condition(self, t, depth=2):
        c = self.chance
        if depth == 0 or c.random() < 0.5:
            compare = c.choice(["=", "<>", "<", "<=", ">", ">="])
            return c.choice(
                [
                    f"{t}.i {compare} {c.randint(-3, 3)}",
                    f"{t}.f {compare} {t}.i",
                    f"{t}.s {compare} '{c.choice(['a', 'B', 'zz', ''])}'",
                    f"{t}.s LIKE '{c.choice(['a%', '%b', '_', '%'])}'",
                    f"{t}.d {compare} DATE '2024-01-{c.randint(10, 28)}'",
                    f"{t}.b",
                    f"{t}.{c.choice('ifsdb')} IS {c.choice(['', 'NOT '])}NULL",
                    f"{t}.i IN (1, 2, {c.randint(-3, 3)})",
                    f"{t}.i BETWEEN {c.randint(-3, 0)} AND {c.randint(0, 3)}",
                    f"EXISTS (SELECT 1 FROM u AS e WHERE e.k = {t}.k)",
                ]
            )
        a, b = self.condition(t, depth - 1), self.condition(t, depth - 1)
        return c.choice([f"({a} AND {b})", f"({a} OR {b})", f"(NOT {a})"])

    def scalar(self, t):
        c = self.chance
        return c.choice(
            [
                self.number(t),
                f"{t}.s",
                f"UPPER({t}.s)",
                f"({t}.s || 'x')",
                f"SUBSTR({t}.s, 1, 1)",
                f"REPLACE({t}.s, 'a', 'q')",
                f"STARTS_WITH({t}.s, 'a')",
                f"EXTRACT(YEAR FROM {t}.d)",
                f"EXTRACT(MONTH FROM {t}.d)",
                f"CASE WHEN {self.condition(t, 1)} THEN 'y' WHEN {self.condition(t, 1)} THEN 'n' END",
            ]
        )

    def query(self):
        c = self.chance
        where = f"WHERE {self.condition('t')}"
        shape = c.randrange(7)
        if shape == 0:
            return f"SELECT {self.scalar('t')} AS a, {self.scalar('t')} AS b FROM t {where}"
        if shape == 1:
            having = c.choice(["", "HAVING COUNT(*) > 1", "HAVING SUM(t.i) > 0"])
            return (
                f"SELECT t.{c.choice('ksb')} AS g, COUNT(*) AS n, COUNT(DISTINCT t.s) AS x, SUM(t.i) AS a, MIN(t.d) AS b, "
                f"MAX(t.f) AS c, AVG(t.i) AS e FROM t {where} GROUP BY 1 {having}"
            )
        if shape == 2:
            join = c.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
            return f"SELECT t.k AS a, u.k AS b, t.s AS c, {self.number('u', 1)} AS e FROM t {join} u ON t.k = u.k"
        if shape == 3:
            over = "PARTITION BY t.k ORDER BY t.i, t.f, t.s, t.d, t.b"
            return (
                f"SELECT t.k AS a, RANK() OVER ({over}) AS b, DENSE_RANK() OVER ({over}) AS c, COUNT(*) OVER (PARTITION BY t.k) "
                f"AS e, SUM(t.i) OVER (PARTITION BY t.s) AS f FROM t {where}"
            )
        if shape == 4:
            return f"SELECT DISTINCT {self.scalar('t')} AS a, t.b AS b FROM t {where}"
        if shape == 5:
            op = c.choice(["UNION ALL", "UNION DISTINCT", "EXCEPT DISTINCT", "INTERSECT DISTINCT"])
            return f"SELECT t.k AS a, t.s AS b FROM t {where} {op} SELECT u.k, u.s FROM u WHERE {self.condition('u')}"
        return (
            f"WITH w AS (SELECT t.k AS k, COUNT(*) AS n FROM t {where} GROUP BY t.k) "
            f"SELECT u.k AS a, w.n AS b, u.d AS c FROM u JOIN w ON u.k = w.k"
        )


def comparable(rows):
    """Rows in an order of their own, numbers to twelve digits: sums depend on the order of their terms."""

    def cell(value):
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return str(value)
        if isinstance(value, (int, float, decimal.Decimal)):
            # DuckDB's 0.5 is a DECIMAL.
            return "nan" if math.isnan(value) else f"{float(value) + 0.0:.10g}"
        return str(value)

    return sorted([cell(value) for value in row] for row in rows)


def test_duckdb_answers_the_same(client, tables):
    names, here = tables
    writer = Writer(random.Random(SEED + 1))
    for case in range(CASES):
        sql = writer.query()
        # EXCEPT and INTERSECT are distinct without the word, which DuckDB does not know.
        there = re.sub(
            r"\b(FROM|JOIN) ([tu])\b(?!\.)( AS \w+)?",
            lambda m: f"{m[1]} `{names[m[2]]}`{m[3] or ' AS ' + m[2]}",
            sql.replace("AS BIGINT", "AS INT64"),
        )
        duck = sql.replace(" DISTINCT SELECT", " SELECT")
        expected = comparable(here.execute(duck).fetchall())
        found = comparable(tuple(row.values()) for row in client.query_and_wait(there))
        assert found == expected, f"API2BQ_DUCKDB_SEED={SEED}, case {case}: {sql}"
