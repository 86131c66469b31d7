#!/usr/bin/env python3
"""Prints every row of a table, as Google's own client reads it, as NDJSON sorted by id."""

import json
import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery


def main():
    emulator_url, project, table = sys.argv[1:]
    client = bigquery.Client(
        project=project,
        credentials=AnonymousCredentials(),
        client_options=ClientOptions(api_endpoint=emulator_url.rstrip("/")),
    )
    rows = [dict(row.items()) for row in client.list_rows(f"{project}.{table}")]
    for row in sorted(rows, key=lambda row: row["id"]):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
