#!/usr/bin/env python3
"""Deletes a table with Google's own client: drop.py EMULATOR_URL PROJECT DATASET.TABLE."""

import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

client = bigquery.Client(
    project=sys.argv[2],
    credentials=AnonymousCredentials(),
    client_options=ClientOptions(api_endpoint=sys.argv[1].rstrip("/")),
)
client.delete_table(f"{sys.argv[2]}.{sys.argv[3]}")
