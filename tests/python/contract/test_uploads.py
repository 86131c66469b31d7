"""Load jobs whose file comes with the request: multipart and resumable."""

import gzip
import io
import json

import pytest
import requests
from google.api_core import exceptions
from google.cloud import bigquery

ROWS = "".join(json.dumps({"n": n, "s": f"row {n}"}) + "\n" for n in range(1000)).encode()
SCHEMA = [bigquery.SchemaField("n", "INTEGER"), bigquery.SchemaField("s", "STRING")]


def config(**more):
    return bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=SCHEMA, **more)


def test_multipart_takes_a_file_of_known_size(client, table_name):
    job = client.load_table_from_file(
        io.BytesIO(ROWS), table_name, size=len(ROWS), job_config=config()
    ).result()
    assert (job.output_rows, job.input_files, job.input_file_bytes) == (1000, 1, len(ROWS))
    assert client.get_table(table_name).num_rows == 1000


def test_resumable_takes_a_file_of_unknown_size(client, table_name):
    job = client.load_table_from_file(io.BytesIO(ROWS), table_name, job_config=config()).result()
    assert job.output_rows == 1000


def test_packed_files_are_recognised(client, table_name):
    packed = gzip.compress(ROWS)
    job = client.load_table_from_file(
        io.BytesIO(packed), table_name, size=len(packed), job_config=config()
    ).result()
    assert job.output_rows == 1000


def test_rows_that_hold_what_looks_like_a_boundary(client, table_name):
    text = '{"n": 1, "s": "\\r\\n--==--"}\r\n--=='
    with pytest.raises(exceptions.BadRequest):
        client.load_table_from_file(
            io.BytesIO(text.encode()), table_name, size=len(text), job_config=config()
        ).result()


def test_a_job_id_is_taken_once(client, table_name):
    first = client.load_table_from_json([{"n": 1}], table_name, job_config=config())
    first.result()
    with pytest.raises(exceptions.Conflict, match="Already Exists"):
        client.load_table_from_json([{"n": 1}], table_name, job_config=config(), job_id=first.job_id)
    assert client.get_table(table_name).num_rows == 1


def test_a_wrong_configuration_makes_no_job(client, table_name):
    wrong = bigquery.LoadJobConfig(source_format="NO_FORMAT")
    with pytest.raises(exceptions.BadRequest):
        client.load_table_from_file(io.BytesIO(b"x"), table_name, size=1, job_config=wrong)


@pytest.fixture
def session(client, table_name, is_embedded, bigquery_url):
    """A resumable session, by hand."""
    if not is_embedded:
        pytest.skip("speaks to the server without credentials")
    reference = bigquery.TableReference.from_string(table_name)
    load = config().to_api_repr()["load"] | {"destinationTable": reference.to_api_repr()}
    url = f"{bigquery_url}/upload/bigquery/v2/projects/{client.project}/jobs?uploadType=resumable"
    answer = requests.post(url, json={"configuration": {"load": load}}, timeout=30)
    assert answer.status_code == 200
    return answer.headers["Location"]


def put(session, data, content_range):
    return requests.put(
        session, data=data, headers={"Content-Range": content_range}, timeout=30, allow_redirects=False
    )


def test_chunks_of_any_size_and_a_question_in_between(client, session, table_name):
    size = len(ROWS)
    first = put(session, b"", f"bytes */{size}")
    assert (first.status_code, first.headers.get("Range")) == (308, None)
    one = put(session, ROWS[:1000], f"bytes 0-999/{size}")
    assert (one.status_code, one.headers["Range"]) == (308, "bytes=0-999")
    # Half of this chunk has come before.
    two = put(session, ROWS[500:2500], "bytes 500-2499/*")
    assert (two.status_code, two.headers["Range"]) == (308, "bytes=0-2499")
    assert put(session, b"", f"bytes */{size}").headers["Range"] == "bytes=0-2499"
    last = put(session, ROWS[2500:], f"bytes 2500-{size - 1}/{size}")
    assert last.status_code == 200
    job = last.json()["jobReference"]
    # The answer may have been lost: the same question leads to the same job.
    for again in (put(session, b"", f"bytes */{size}"), put(session, ROWS[2500:], f"bytes 2500-{size - 1}/{size}")):
        assert (again.status_code, again.json()["jobReference"]) == (200, job)
    assert client.get_job(job["jobId"], location=job["location"]).result().output_rows == 1000
    assert client.get_table(table_name).num_rows == 1000


def test_chunks_that_do_not_fit_are_refused(session):
    assert put(session, b"x" * 10, "bytes 5-14/20").status_code == 400
    assert put(session, b"x" * 10, "bytes 0-4/20").status_code == 400
    assert put(session, b"x", "bytes 0-30/20").status_code == 400
    assert put(session, b"x", "nonsense").status_code == 400
    gone = session.replace("upload_id=", "upload_id=0")
    assert put(gone, b"x", "bytes 0-0/1").status_code == 404


def test_a_session_can_be_given_up(session):
    assert requests.delete(session, timeout=30).status_code in (204, 499)
    assert put(session, b"", "bytes */1").status_code in (404, 499)
