"""The project itself, and the shape of a refusal."""

import pytest
from google.api_core.exceptions import NotFound


def test_the_project_has_a_service_account(client):
    assert "@" in client.get_service_account_email()


def test_a_project_with_a_dataset_is_listed_with_its_number(client, dataset):
    projects = {p.project_id: p for p in client.list_projects()}
    assert int(projects[dataset.project].numeric_id) > 0


def test_what_is_not_there_is_said_by_name_and_reason(client, dataset, table_name):
    with pytest.raises(NotFound) as refused:
        client.get_table(table_name)
    [error] = refused.value.errors
    assert error["reason"] == "notFound"
    assert error["message"].startswith("Not found: Table ")
    assert table_name.rsplit(".", 1)[1] in error["message"]
