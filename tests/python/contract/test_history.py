"""The past of a table: read at a time, and brought back after it was deleted."""

import time

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

SCHEMA = [bigquery.SchemaField("n", "INTEGER")]


def server_ms(client, dataset):
    """Now, by the clock of the service: what a new table says of its creation."""
    probe = client.create_table(f"{dataset.project}.{dataset.dataset_id}.probe_{time.time_ns()}")
    client.delete_table(probe)
    return int(probe.created.timestamp() * 1000)


def load(client, name, rows, disposition="WRITE_TRUNCATE"):
    config = bigquery.LoadJobConfig(schema=SCHEMA, write_disposition=disposition)
    client.load_table_from_json([{"n": n} for n in rows], name, job_config=config).result()


def rows_of(client, name):
    return sorted(row.n for row in client.list_rows(name, selected_fields=SCHEMA))


def test_a_table_is_read_as_it_was(client, dataset, table_name):
    load(client, table_name, [1, 2])
    first = server_ms(client, dataset)
    load(client, table_name, [3])
    assert rows_of(client, table_name) == [3]
    copy = client.copy_table(f"{table_name}@{first}", f"{table_name}_first")
    copy.result()
    assert rows_of(client, f"{table_name}_first") == [1, 2]


def test_pages_are_of_the_table_as_it_was_at_the_first(client, table_name):
    load(client, table_name, range(300))
    pages = client.list_rows(table_name, selected_fields=SCHEMA, page_size=100).pages
    found = [row.n for row in next(pages)]
    client.query(f"UPDATE `{table_name}` SET n = -n WHERE n < 250").result()
    client.query(f"DELETE `{table_name}` WHERE n > 250").result()
    assert sorted(found + [row.n for page in pages for row in page]) == list(range(300))
    assert len(rows_of(client, table_name)) == 251


def test_a_deleted_table_comes_back(client, dataset, table_name):
    load(client, table_name, [1, 2, 3])
    before = server_ms(client, dataset)
    client.delete_table(table_name)
    with pytest.raises(NotFound):
        client.get_table(table_name)
    client.copy_table(f"{table_name}@{before}", f"{table_name}_recovered").result()
    assert rows_of(client, f"{table_name}_recovered") == [1, 2, 3]
    # Under its own name too, and then the old one is still another table.
    client.copy_table(f"{table_name}@{before}", table_name).result()
    assert rows_of(client, table_name) == [1, 2, 3]


def test_a_recreated_table_is_another_one(client, dataset, table_name):
    load(client, table_name, [1])
    before = server_ms(client, dataset)
    client.delete_table(table_name)
    load(client, table_name, [2])
    client.copy_table(f"{table_name}@{before}", f"{table_name}_old").result()
    assert rows_of(client, f"{table_name}_old") == [1]


def test_a_partitioned_table_comes_back_without_its_partitioning(client, dataset, table_name):
    table = bigquery.Table(table_name, schema=SCHEMA)
    table.time_partitioning = bigquery.TimePartitioning()
    client.create_table(table)
    load(client, f"{table_name}$20240105", [1])
    load(client, f"{table_name}$20240106", [2])
    before = server_ms(client, dataset)
    client.delete_table(table_name)
    client.copy_table(f"{table_name}@{before}", f"{table_name}_plain").result()
    plain = client.get_table(f"{table_name}_plain")
    assert plain.time_partitioning is None
    assert plain.num_rows == 2


def test_times_out_of_reach_are_refused(client, dataset, table_name):
    load(client, table_name, [1])
    with pytest.raises(BadRequest, match="Invalid snapshot time 1000"):
        client.copy_table(f"{table_name}@1000", f"{table_name}_x").result()
    with pytest.raises((BadRequest, NotFound)):
        client.copy_table(f"{table_name}_never@{server_ms(client, dataset)}", f"{table_name}_x").result()
    assert "_x" not in {t.table_id[-2:] for t in client.list_tables(dataset)}


def test_time_travel_is_two_to_seven_days(client, dataset):
    dataset = client.get_dataset(dataset.reference)
    assert dataset.max_time_travel_hours in (None, "168", 168)
    dataset.max_time_travel_hours = 48
    assert int(client.update_dataset(dataset, ["max_time_travel_hours"]).max_time_travel_hours) == 48
    # Google's client has the bounds itself.
    for wrong in ("24", "50", "192"):
        with pytest.raises(BadRequest):
            client._connection.api_request("PATCH", dataset.path, data={"maxTimeTravelHours": wrong})
