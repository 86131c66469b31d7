"""Query jobs: dry runs, what they would cost, failures, lists and repeated requests."""

import uuid

import pytest
from google.api_core.exceptions import BadRequest, ClientError, Conflict, NotFound
from google.cloud import bigquery


@pytest.fixture(scope="module")
def two(client, dataset):
    """Two small tables."""
    names = [f"{dataset.project}.{dataset.dataset_id}.two{n}" for n in (1, 2)]
    for name in names:
        client.query_and_wait(f"CREATE TABLE `{name}` AS SELECT 1 AS a, 'xyz' AS b")
    return names


def dry(client, sql):
    return client.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True, use_query_cache=False))


def test_a_dry_run_says_bytes_and_schema_and_runs_nothing(client, two):
    job = dry(client, f"SELECT b FROM `{two[0]}`")
    assert (job.state, job.dry_run, job.total_bytes_processed) == ("DONE", True, 5)
    assert [(f.name, f.field_type) for f in job.schema] == [("b", "STRING")]
    assert [t.table_id for t in job.referenced_tables] == ["two1"]
    for kind, sql in (
        ("INSERT", f"INSERT `{two[0]}` VALUES (2, 'x')"),
        ("UPDATE", f"UPDATE `{two[0]}` SET a = 2 WHERE TRUE"),
        ("DELETE", f"DELETE FROM `{two[0]}` WHERE TRUE"),
        ("MERGE", f"MERGE `{two[0]}` t USING `{two[1]}` s ON t.a = s.a WHEN MATCHED THEN DELETE"),
        ("CREATE_TABLE", f"CREATE TABLE `{two[0]}x` (a INT64)"),
        ("DROP_TABLE", f"DROP TABLE `{two[0]}`"),
    ):
        assert dry(client, sql).statement_type == kind
    assert client.get_table(two[0]).num_rows == 1
    with pytest.raises(BadRequest):
        dry(client, f"SELECT nothing FROM `{two[0]}`")


def test_every_table_is_billed_for_ten_mebibytes_at_least(client, two):
    job = client.query(f"SELECT t.a FROM `{two[0]}` t JOIN `{two[1]}` s ON t.a = s.a",
                       job_config=bigquery.QueryJobConfig(use_query_cache=False))
    job.result()
    assert (job.total_bytes_processed, job.total_bytes_billed) == (16, 20 << 20)
    assert sorted(t.table_id for t in job.referenced_tables) == ["two1", "two2"]
    assert (job.statement_type, job.cache_hit) == ("SELECT", False)
    for statement in (f"SELECT a FROM `{two[0]}`", f"UPDATE `{two[0]}` SET a = 9 WHERE TRUE"):
        config = bigquery.QueryJobConfig(maximum_bytes_billed=1, use_query_cache=False)
        with pytest.raises(Exception, match="Query exceeded limit for bytes billed: 1. 10485760 or higher") as failure:
            client.query(statement, job_config=config, job_retry=None).result()
        assert failure.value.errors[0]["reason"] == "bytesBilledLimitExceeded"


def test_a_failed_job_stays_and_says_why(client, dataset):
    job_id = f"failed_{uuid.uuid4().hex}"
    with pytest.raises(NotFound):
        client.query(f"SELECT * FROM {dataset.dataset_id}.nothing", job_id=job_id, job_retry=None).result()
    job = client.get_job(job_id, location=dataset.location)
    assert (job.state, job.error_result["reason"]) == ("DONE", "notFound")
    with pytest.raises(Conflict):
        client.query("SELECT 1", job_id=job_id, job_retry=None, retry=None)
    with pytest.raises(BadRequest) as failure:
        client.query_and_wait("SELEC 1")
    assert failure.value.errors[0]["reason"] == "invalidQuery"


def test_statements_without_rows_answer_without_rows(client, two):
    rows = client.query_and_wait(f"UPDATE `{two[1]}` SET b = 'q' WHERE TRUE")
    assert (list(rows), rows.num_dml_affected_rows) == ([], 1)
    answer = client._connection.api_request(
        method="POST", path=f"/projects/{client.project}/queries",
        data={"query": f"INSERT `{two[1]}` VALUES (5, 'r')", "useLegacySql": False, "timeoutMs": 60000},
    )
    assert (answer["jobComplete"], answer["numDmlAffectedRows"]) == (True, "1")
    assert "rows" not in answer and "totalRows" not in answer


def test_a_request_sent_twice_runs_once(client, two):
    request = {
        "query": f"INSERT `{two[1]}` VALUES (77, 'once')", "useLegacySql": False, "timeoutMs": 60000,
        "requestId": str(uuid.uuid4()),
    }
    path = f"/projects/{client.project}/queries"
    answers = [client._connection.api_request(method="POST", path=path, data=request) for _ in range(2)]
    assert [a["numDmlAffectedRows"] for a in answers] == ["1", "1"]
    [(count,)] = client.query_and_wait(f"SELECT COUNT(*) FROM `{two[1]}` WHERE a = 77")
    assert count == 1


def test_jobs_are_listed_newest_first_and_by_state(client):
    first = client.query("SELECT 1 AS a", job_config=bigquery.QueryJobConfig(labels={"k": "v"}))
    first.result()
    second = client.query("SELECT 2 AS a")
    second.result()
    listed = [job.job_id for job in client.list_jobs(max_results=50, state_filter="done")]
    assert listed.index(second.job_id) < listed.index(first.job_id)
    assert client.get_job(first).labels == {"k": "v"}


def test_cancelling_a_job_that_is_done_changes_nothing(client):
    job = client.query("SELECT 1 AS a")
    job.result()
    job.cancel()
    job.reload()
    assert (job.state, job.error_result) == ("DONE", None)


def test_a_query_that_would_take_hours_is_cancelled_at_once(client):
    # Nothing leaves these joins and the count for hours.
    numbers = "UNNEST(GENERATE_ARRAY(1, 200000))"
    sql = f"SELECT COUNT(*) FROM {numbers} a JOIN {numbers} b ON MOD(a, 2) = MOD(b, 2) JOIN {numbers} c ON MOD(c, 2) = MOD(b, 2)"
    job = client.query(sql, job_config=bigquery.QueryJobConfig(use_query_cache=False))
    job.cancel()
    with pytest.raises(ClientError) as failure:
        job.result(timeout=60)
    assert failure.value.errors[0]["reason"] == "stopped"
    assert job.state == "DONE"


def test_a_statement_that_is_no_query_takes_no_destination(client, dataset, two):
    config = bigquery.QueryJobConfig(destination=f"{dataset.project}.{dataset.dataset_id}.dest")
    with pytest.raises(BadRequest):
        client.query(f"UPDATE `{two[0]}` SET a = 1 WHERE TRUE", job_config=config, job_retry=None).result()


def test_sessions_are_refused_where_there_are_none(client, is_embedded):
    if not is_embedded:
        pytest.skip("the real service has sessions")
    with pytest.raises(Exception) as failure:
        client.query("SELECT 1", job_config=bigquery.QueryJobConfig(create_session=True), retry=None, job_retry=None)
    assert failure.value.code == 501
