"""Datasets and tables: made, shown, changed, listed and deleted; and the answers' own options."""

import datetime

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound, PreconditionFailed
from google.cloud import bigquery
from google.cloud.bigquery import SchemaField

SCHEMA = [SchemaField("id", "INTEGER", mode="REQUIRED"), SchemaField("name", "STRING")]


def create(client, name, schema=SCHEMA, **attributes):
    table = bigquery.Table(name, schema=schema)
    for attribute, value in attributes.items():
        setattr(table, attribute, value)
    return client.create_table(table)


def update(client, table, **attributes):
    for attribute, value in attributes.items():
        setattr(table, attribute, value)
    return client.update_table(table, list(attributes))


def load(client, name, rows, **options):
    config = bigquery.LoadJobConfig(write_disposition="WRITE_TRUNCATE", **options)
    return client.load_table_from_json(rows, name, job_config=config).result()


def test_a_table_is_shown_as_it_was_made(client, dataset, table_name):
    made = create(client, table_name, description="d", friendly_name="f", labels={"a": "b"})
    table = client.get_table(table_name)
    assert (table.description, table.friendly_name, table.labels) == ("d", "f", {"a": "b"})
    assert table.schema == SCHEMA
    assert (table.table_type, table.num_rows, table.num_bytes) == ("TABLE", 0, 0)
    assert table.location == dataset.location
    assert table.etag == made.etag
    assert table.full_table_id == f"{table.project}:{table.dataset_id}.{table.table_id}"
    resource = table.to_api_repr()
    for number in ("numRows", "numBytes", "creationTime", "lastModifiedTime"):
        assert isinstance(resource[number], str) and resource[number].isdigit()
    with pytest.raises(Conflict, match="Already Exists: Table"):
        create(client, table_name)
    with pytest.raises(NotFound):
        client.get_table(f"{table_name}_none")


def test_only_what_is_sent_changes_and_null_clears(client, table_name):
    table = create(client, table_name, description="d", friendly_name="f", labels={"a": "1", "b": "2"})
    changed = update(client, table, description="e")
    assert (changed.description, changed.friendly_name) == ("e", "f")
    cleared = update(client, changed, friendly_name=None)
    assert cleared.friendly_name is None
    labels = update(client, cleared, labels={"a": None, "c": "3"})
    assert labels.labels == {"b": "2", "c": "3"}


def test_a_stale_etag_loses(client, table_name):
    first = create(client, table_name)
    second = client.get_table(table_name)
    update(client, first, description="first")
    with pytest.raises(PreconditionFailed):
        update(client, second, description="second")
    assert client.get_table(table_name).description == "first"


def test_a_stale_etag_deletes_nothing(client, table_name):
    first = create(client, table_name)
    now = update(client, first, description="new")

    def delete(etag):
        client._connection.api_request("DELETE", now.path, headers={"If-Match": etag})

    with pytest.raises(PreconditionFailed):
        delete(first.etag)
    delete(now.etag)
    with pytest.raises(NotFound):
        client.get_table(table_name)


def test_put_replaces_the_document(client, table_name):
    table = create(client, table_name, description="d", labels={"a": "1"})
    body = {"tableReference": table.reference.to_api_repr(), "schema": {"fields": [f.to_api_repr() for f in SCHEMA]}}
    client._connection.api_request("PUT", table.path, data=dict(body, friendlyName="f"))
    table = client.get_table(table_name)
    assert (table.friendly_name, table.description, table.labels) == ("f", None, {})


def test_schemas_grow(client, table_name):
    record = SchemaField("r", "RECORD", fields=[SchemaField("x", "INTEGER")])
    table = create(client, table_name, schema=[*SCHEMA, record])
    load(client, table_name, [{"id": 1, "name": "a", "r": {"x": 1}}], schema=table.schema)
    wider = SchemaField("r", "RECORD", fields=[SchemaField("x", "INTEGER"), SchemaField("y", "STRING")])
    relaxed = SchemaField("id", "INTEGER", mode="NULLABLE")
    table = update(client, client.get_table(table_name), schema=[relaxed, SCHEMA[1], wider, SchemaField("n", "FLOAT")])
    assert [f.name for f in table.schema] == ["id", "name", "r", "n"]
    assert [tuple(row.values()) for row in client.list_rows(table)] == [(1, "a", {"x": 1, "y": None}, None)]


@pytest.mark.parametrize(
    "schema",
    [
        [SCHEMA[1]],
        [SchemaField("id", "STRING", mode="REQUIRED"), SCHEMA[1]],
        [*SCHEMA, SchemaField("new", "STRING", mode="REQUIRED")],
        [SCHEMA[0], SchemaField("name", "STRING", mode="REQUIRED")],
    ],
    ids=["dropped", "retyped", "required", "stricter"],
)
def test_schemas_do_not_shrink(client, table_name, schema):
    table = create(client, table_name)
    with pytest.raises(BadRequest) as caught:
        update(client, table, schema=schema)
    assert caught.value.errors[0]["reason"] == "invalid"
    assert client.get_table(table_name).schema == SCHEMA


def test_clustering_and_keys_come_and_go(client, table_name):
    table = create(client, table_name, clustering_fields=["name"])
    table = update(client, table, clustering_fields=["id", "name"])
    assert table.clustering_fields == ["id", "name"]
    table = update(client, table, clustering_fields=None)
    assert table.clustering_fields is None
    key = bigquery.table.TableConstraints(bigquery.table.PrimaryKey(columns=["id"]), None)
    table = update(client, table, table_constraints=key)
    assert table.table_constraints.primary_key.columns == ["id"]
    table = update(client, table, table_constraints=None)
    assert table.table_constraints is None
    with pytest.raises(BadRequest):
        update(client, table, clustering_fields=["zzz"])


@pytest.mark.parametrize("kind", ["HOUR", "DAY", "MONTH", "YEAR"])
def test_time_partitions(client, table_name, kind):
    partition = {"HOUR": "2024010523", "DAY": "20240105", "MONTH": "202401", "YEAR": "2024"}[kind]
    schema = [SchemaField("at", "DATETIME")]
    partitioning = bigquery.TimePartitioning(type_=kind, field="at")
    create(client, table_name, schema=schema, time_partitioning=partitioning)
    load(client, table_name, [{"at": "2024-01-05T23:59:59"}, {"at": None}, {"at": "2022-02-02T00:00:00"}], schema=schema)
    assert client.get_table(table_name).time_partitioning.type_ == kind
    assert client.get_table(f"{table_name}${partition}").num_rows == 1
    assert client.get_table(f"{table_name}$__NULL__").num_rows == 1
    client.delete_table(f"{table_name}${partition}")
    assert client.get_table(table_name).num_rows == 2
    with pytest.raises(BadRequest):
        client.get_table(f"{table_name}$20240230")


def test_integer_ranges(client, table_name):
    schema = [SchemaField("n", "INTEGER")]
    interval = bigquery.PartitionRange(start=0, end=100, interval=10)
    create(client, table_name, schema=schema, range_partitioning=bigquery.RangePartitioning(range_=interval, field="n"))
    load(client, table_name, [{"n": n} for n in (0, 9, 10, 99, 100, -1, None)], schema=schema)
    shown = client.get_table(table_name).range_partitioning
    assert (shown.field, shown.range_.start, shown.range_.end, shown.range_.interval) == ("n", 0, 100, 10)
    counts = [client.get_table(f"{table_name}${p}").num_rows for p in ("0", "10", "90", "__UNPARTITIONED__", "__NULL__")]
    assert counts == [2, 1, 1, 2, 1]


def test_partitioning_needs_a_fitting_column_and_stays(client, table_name):
    for partitioning in (
        bigquery.TimePartitioning(field="zzz"),
        bigquery.TimePartitioning(field="name"),
    ):
        with pytest.raises(BadRequest):
            create(client, table_name, time_partitioning=partitioning)
    table = create(client, table_name, time_partitioning=bigquery.TimePartitioning())
    kept = bigquery.TimePartitioning(expiration_ms=86_400_000 * 40_000)
    assert update(client, table, time_partitioning=kept).time_partitioning.expiration_ms == 86_400_000 * 40_000
    table = client.get_table(table_name)
    with pytest.raises(BadRequest):
        update(client, table, time_partitioning=bigquery.TimePartitioning(type_="MONTH"))


def test_what_expires(client, dataset, table_name):
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    table = create(client, table_name, expires=soon)
    assert abs((table.expires - soon).total_seconds()) < 1
    table = update(client, table, expires=None)
    assert table.expires is None
    old = f"{table_name}_old"
    create(client, old, time_partitioning=bigquery.TimePartitioning(expiration_ms=86_400_000))
    load(client, f"{old}$20200101", [{"id": 1, "name": "a"}], schema=SCHEMA)
    assert client.get_table(old).num_rows == 0


def test_nothing_is_told_to_have_expired(client, table_name):
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    with pytest.raises(BadRequest):
        create(client, table_name, expires=past)
    table = create(client, table_name)
    with pytest.raises(BadRequest):
        update(client, table, expires=past)
    assert client.get_table(table_name).expires is None


@pytest.mark.parametrize("mode", ["NULLABLE", "REPEATED"])
def test_records_nest_fifteen_deep(client, table_name, mode):
    def nested(levels):
        field = SchemaField("leaf", "INTEGER")
        for _ in range(levels):
            field = SchemaField("r", "RECORD", mode=mode, fields=[field])
        return [field]

    with pytest.raises(BadRequest):
        create(client, table_name, schema=nested(16))
    assert create(client, table_name, schema=nested(15)).schema == nested(15)


def test_defaults_of_the_dataset(client, dataset):
    name = f"{dataset.project}.{dataset.dataset_id}_defaults"
    made = bigquery.Dataset(name)
    made.location = dataset.location
    made.default_table_expiration_ms = 7_200_000
    made.default_partition_expiration_ms = 86_400_000 * 40_000
    made = client.create_dataset(made)
    try:
        assert (made.default_table_expiration_ms, made.is_case_insensitive) == (7_200_000, False)
        plain = create(client, f"{name}.plain")
        assert (plain.expires - plain.created).total_seconds() == pytest.approx(7200, abs=1)
        by_day = create(client, f"{name}.by_day", time_partitioning=bigquery.TimePartitioning())
        assert by_day.expires is None
        assert by_day.time_partitioning.expiration_ms == 86_400_000 * 40_000
        with pytest.raises(BadRequest) as caught:
            client.delete_dataset(name)
        assert caught.value.errors[0]["reason"] == "resourceInUse"
    finally:
        client.delete_dataset(name, delete_contents=True)
    with pytest.raises(NotFound):
        client.get_dataset(name)


def test_datasets_change_and_are_found_by_label(client, dataset):
    name = f"{dataset.project}.{dataset.dataset_id}_labelled"
    made = bigquery.Dataset(name)
    made.location = dataset.location
    made.is_case_insensitive = True
    made = client.create_dataset(made)
    try:
        entries = list(made.access_entries)
        assert entries, "a new dataset admits somebody"
        made.description, made.labels = "d", {"contract": dataset.dataset_id}
        made = client.update_dataset(made, ["description", "labels"])
        assert made.description == "d"
        found = client.list_datasets(filter=f"labels.contract:{dataset.dataset_id}")
        assert [d.dataset_id for d in found] == [made.dataset_id]
        create(client, f"{name}.Mixed")
        assert client.get_table(f"{name}.mIXED").num_rows == 0
        with pytest.raises(Conflict):
            create(client, f"{name}.MIXED")
        stale = client.get_dataset(name)
        made.description = None
        assert client.update_dataset(made, ["description"]).description is None
        stale.friendly_name = "no"
        with pytest.raises(PreconditionFailed):
            client.update_dataset(stale, ["friendly_name"])
    finally:
        client.delete_dataset(name, delete_contents=True)


def test_lists_come_in_pages(client, dataset):
    name = f"{dataset.project}.{dataset.dataset_id}_pages"
    made = bigquery.Dataset(name)
    made.location = dataset.location
    client.create_dataset(made)
    try:
        for number in range(5):
            create(client, f"{name}.t{number}", labels={"n": str(number)})
        pages = [[t.table_id for t in page] for page in client.list_tables(name, page_size=2).pages]
        assert pages == [["t0", "t1"], ["t2", "t3"], ["t4"]]
        first = next(iter(client.list_tables(name)))
        assert (first.labels, first.table_type) == ({"n": "0"}, "TABLE")
    finally:
        client.delete_dataset(name, delete_contents=True)


def test_a_client_gets_the_fields_that_it_asks_for(client, table_name):
    table = create(client, table_name, description="d")
    part = client._connection.api_request("GET", table.path, query_params={"fields": "id,schema(fields/name)"})
    assert part == {"id": table.full_table_id, "schema": {"fields": [{"name": "id"}, {"name": "name"}]}}


def test_jobs_are_listed_and_deleted(client, table_name):
    job = load(client, table_name, [{"id": 1, "name": "a"}], schema=SCHEMA)
    assert job.job_id in {j.job_id for j in client.list_jobs(state_filter="done", max_results=50)}
    since = job.created + datetime.timedelta(hours=1)
    assert list(client.list_jobs(min_creation_time=since)) == []
    client.delete_job_metadata(job)
    with pytest.raises(NotFound):
        client.get_job(job.job_id, location=job.location)
