"""What BigQuery promises its clients, asked through Google's own.

One set of tests for two services: the embedded server at BIGQUERY_EMULATOR_HOST, and the real one in the
project that API2BQ_CONTRACT_PROJECT names, with application default credentials. `cargo test contract`
runs them all; `pytest tests/python/contract` against a server that is up.
"""

import itertools
import os
import uuid
import warnings

# google-api-core warns about the age of the Python that it runs on, before anything else.
warnings.filterwarnings("ignore", category=FutureWarning, module="google")

import pytest
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud import storage as google_storage

REAL_PROJECT = os.environ.get("API2BQ_CONTRACT_PROJECT")
LOCATION = os.environ.get("API2BQ_CONTRACT_LOCATION", "US")
NUMBERS = itertools.count(1)


def with_scheme(host):
    return host if "://" in host else f"http://{host}"


def unique(prefix):
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def is_embedded():
    """For the few things that only one of the two services has."""
    return REAL_PROJECT is None


@pytest.fixture(scope="session")
def bigquery_url():
    """Base URL of the service, without a path."""
    if REAL_PROJECT:
        return "https://bigquery.googleapis.com"
    return with_scheme(os.environ["BIGQUERY_EMULATOR_HOST"]).rstrip("/")


@pytest.fixture(scope="session")
def client(bigquery_url):
    if REAL_PROJECT:
        return bigquery.Client(project=REAL_PROJECT, location=LOCATION)
    return bigquery.Client(
        project="api2gbq",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=bigquery_url),
    )


@pytest.fixture(scope="module")
def dataset(client):
    """A dataset of this file's own, gone afterwards with all that is in it."""
    made = bigquery.Dataset(f"{client.project}.{unique('contract')}")
    made.location = LOCATION
    made = client.create_dataset(made)
    yield made
    client.delete_dataset(made, delete_contents=True, not_found_ok=True)


@pytest.fixture
def table_name(dataset):
    """`project.dataset.table` of a table that is not there yet."""
    return f"{dataset.project}.{dataset.dataset_id}.t{next(NUMBERS)}"


@pytest.fixture(scope="session")
def storage_url():
    """Base URL of Cloud Storage, without a path."""
    if REAL_PROJECT:
        return "https://storage.googleapis.com"
    return with_scheme(os.environ["STORAGE_EMULATOR_HOST"]).rstrip("/")


@pytest.fixture(scope="session")
def storage(storage_url):
    if REAL_PROJECT:
        return google_storage.Client(project=REAL_PROJECT)
    return google_storage.Client(
        project="api2gbq",
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=storage_url),
    )


@pytest.fixture(scope="module")
def bucket(storage):
    """A bucket of this file's own, gone afterwards with all that is in it."""
    made = storage.create_bucket(unique("contract").replace("_", "-"), location=LOCATION)
    yield made
    made.delete(force=True)
