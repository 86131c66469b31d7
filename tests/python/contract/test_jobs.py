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
    job.reload()
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


def test_a_request_id_answers_only_its_own_request(client, two):
    path, request_id = f"/projects/{client.project}/queries", str(uuid.uuid4())

    def ask(sql, **more):
        data = {"query": sql, "useLegacySql": False, "timeoutMs": 60000, "requestId": request_id, **more}
        return client._connection.api_request(method="POST", path=path, data=data)

    assert ask("SELECT 1 AS a")["rows"] == [{"f": [{"v": "1"}]}]
    assert ask("SELECT 2 AS a")["rows"] == [{"f": [{"v": "2"}]}]
    parameter = {"name": "p", "parameterType": {"type": "INT64"}, "parameterValue": {"value": "3"}}
    for value in ("3", "4"):
        parameter["parameterValue"]["value"] = value
        answer = ask("SELECT @p AS a", parameterMode="NAMED", queryParameters=[parameter])
        assert answer["rows"] == [{"f": [{"v": value}]}]
    insert = f"INSERT `{two[1]}` VALUES (78, 'once')"
    jobs = [ask(insert, timeoutMs=wait)["jobReference"]["jobId"] for wait in (60000, 50000)]
    assert jobs[0] == jobs[1]


def test_a_query_runs_where_its_tables_are(client):
    made = bigquery.Dataset(f"{client.project}.contract_{uuid.uuid4().hex[:12]}")
    made.location = "EU"
    made = client.create_dataset(made)
    try:
        name = f"{made.project}.{made.dataset_id}.t"
        client.create_table(bigquery.Table(name, schema=[bigquery.SchemaField("a", "INTEGER")]))
        for sql in (f"SELECT * FROM `{name}`", f"INSERT `{name}` VALUES (1)", f"SELECT (SELECT MAX(a) FROM `{name}`)"):
            answer = client._connection.api_request(
                method="POST", path=f"/projects/{client.project}/queries",
                data={"query": sql, "useLegacySql": False, "timeoutMs": 60000},
            )
            assert (answer["jobComplete"], answer["jobReference"]["location"]) == (True, "EU")
    finally:
        client.delete_dataset(made, delete_contents=True)


def test_values_of_parameters_come_back_as_texts(client, dataset):
    parameter = {"name": "p", "parameterType": {"type": "FLOAT64"}, "parameterValue": {"value": 1.5}}
    query = {"query": "SELECT @p AS p", "useLegacySql": False, "parameterMode": "NAMED", "queryParameters": [parameter]}
    made = client._connection.api_request(
        method="POST", path=f"/projects/{client.project}/jobs",
        data={"configuration": {"query": query}},
    )
    [shown] = made["configuration"]["query"]["queryParameters"]
    assert float(shown["parameterValue"]["value"]) == 1.5 and isinstance(shown["parameterValue"]["value"], str)


def test_a_dry_run_says_what_parameters_a_query_takes(client, two):
    def asked(sql):
        query = {"query": sql, "useLegacySql": False, "parameterMode": "NAMED"}
        answer = client._connection.api_request(
            method="POST", path=f"/projects/{client.project}/jobs",
            data={"configuration": {"dryRun": True, "query": query}},
        )
        found = answer["statistics"]["query"].get("undeclaredQueryParameters", [])
        return {p["name"]: p["parameterType"]["type"] for p in found}

    assert asked(f"SELECT a FROM `{two[1]}` WHERE a > @least AND b = @b") == {"least": "INT64", "b": "STRING"}
    assert asked("SELECT x FROM (SELECT 1.5 AS x) WHERE x < @most") == {"most": "FLOAT64"}
    assert asked("SELECT UPPER(@text)") == {"text": "STRING"}
    assert asked("SELECT 1 AS a") == {}
    with pytest.raises(BadRequest):
        asked("SELECT nothing FROM (SELECT 1 AS a) WHERE a = @a")
