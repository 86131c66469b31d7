"""Access policies of tables."""

import pytest
from google.api_core.exceptions import BadRequest, Conflict, NotFound
from google.api_core.iam import Policy
from google.cloud import bigquery

VIEWER = "roles/bigquery.dataViewer"


@pytest.fixture
def table(client, table_name):
    return client.create_table(bigquery.Table(table_name, schema=[bigquery.SchemaField("n", "INTEGER")]))


@pytest.fixture
def member(client, is_embedded):
    """Somebody that the service knows."""
    return "user:somebody@example.com" if is_embedded else f"serviceAccount:{client.get_service_account_email()}"


def test_a_new_table_has_no_policy(client, table):
    policy = client.get_iam_policy(table)
    assert list(policy.bindings) == []
    assert policy.etag == "ACAB"


def test_a_policy_is_kept_and_its_etag_changes(client, table, member):
    policy = client.get_iam_policy(table)
    policy.bindings = [{"role": VIEWER, "members": {member}}]
    returned = client.set_iam_policy(table, policy)
    assert returned.etag != policy.etag
    kept = client.get_iam_policy(table)
    assert [(b["role"], set(b["members"])) for b in kept.bindings] == [(VIEWER, {member})]
    assert kept.etag == returned.etag
    kept.bindings = []
    assert list(client.set_iam_policy(table, kept).bindings) == []


def test_a_lost_race_is_told(client, table, member):
    stale = client.get_iam_policy(table)
    client.set_iam_policy(table, Policy(etag=stale.etag))
    mine = Policy(etag=stale.etag)
    mine.bindings = [{"role": VIEWER, "members": {member}}]
    with pytest.raises(Conflict):
        client.set_iam_policy(table, mine)
    assert list(client.get_iam_policy(table).bindings) == []


def test_nonsense_is_refused(client, table):
    for role, who in (("dataViewer", "user:a@example.com"), (VIEWER, "a@example.com")):
        policy = Policy()
        policy.bindings = [{"role": role, "members": {who}}]
        with pytest.raises(BadRequest):
            client.set_iam_policy(table, policy)


def test_a_policy_goes_with_its_table_and_is_not_copied(client, table, table_name, member):
    policy = client.get_iam_policy(table)
    policy.bindings = [{"role": VIEWER, "members": {member}}]
    client.set_iam_policy(table, policy)
    client.copy_table(table, f"{table_name}_copy").result()
    assert list(client.get_iam_policy(f"{table_name}_copy").bindings) == []
    # A copy into the table leaves its policy alone.
    overwrite = bigquery.CopyJobConfig(write_disposition="WRITE_TRUNCATE")
    client.copy_table(f"{table_name}_copy", table, job_config=overwrite).result()
    assert len(list(client.get_iam_policy(table).bindings)) == 1
    client.delete_table(table)
    with pytest.raises(NotFound):
        client.get_iam_policy(table)
    client.create_table(table_name)
    assert list(client.get_iam_policy(table_name).bindings) == []


def test_permissions(client, table):
    wanted = ["bigquery.tables.get", "bigquery.tables.getData"]
    assert set(client.test_iam_permissions(table, wanted)["permissions"]) == set(wanted)
