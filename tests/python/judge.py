#!/usr/bin/env python3
"""Asks Google's own client what the emulator holds, and prints it as one JSON document.

Reads each staging partition and the whole production table, queries staging with a partition filter,
and proves that a query without one is refused. With --expect it compares all of it with what
oracle.py printed. Exits 1 with a message on anything unexpected.
"""

import argparse
import datetime
import json
import sys
import time
import warnings

# google-api-core warns about the age of the Python that it runs on, before anything else.
warnings.filterwarnings("ignore", category=FutureWarning, module="google")

from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from requests.exceptions import RequestException

from oracle import COLUMNS, DAY, STRINGS, row_digest

TIMEOUT_SECONDS = 120
# An emulator that does not answer for 20 s will not; the client's own patience is ten minutes.
RETRY = bigquery.DEFAULT_RETRY.with_timeout(20)


class Unexpected(Exception):
    """What was found instead of what must hold."""


def demand(holds, message):
    if not holds:
        raise Unexpected(message)


class Judge:
    def __init__(self, args):
        self.client = bigquery.Client(
            project=args.project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=args.emulator_url.rstrip("/")),
        )
        self.dataset = f"{args.project}.{args.dataset}"
        self.staging = args.staging
        self.production = args.production
        self.epoch = args.epoch

    def rows(self, table):
        """The ten columns of each row, whatever else the table holds."""
        found = self.client.list_rows(
            f"{self.dataset}.{table}", retry=RETRY, timeout=TIMEOUT_SECONDS)
        names = [field.name for field in found.schema]
        missing = [name for name in COLUMNS if name not in names]
        demand(not missing, f"`{table}` lacks the columns {missing}")
        for field in found.schema:
            if field.name in COLUMNS:
                wanted = "STRING" if field.name in STRINGS else "INTEGER"
                demand(field.field_type in (wanted, "INT64" if wanted == "INTEGER" else wanted),
                       f"`{table}`: column `{field.name}` is {field.field_type}, expected {wanted}")
        places = [names.index(name) for name in COLUMNS]
        count = 0
        for row in found:
            count += 1
            values = row.values()
            yield tuple(values[place] for place in places)
        demand(found.total_rows == count,
               f"`{table}` says {found.total_rows} rows, its pages hold {count}")

    def partition_date(self, day):
        return self.epoch + datetime.timedelta(days=day - 1)

    def read_partition(self, day):
        table = f"{self.staging}${self.partition_date(day):%Y%m%d}"
        ids, byte_count_sum, digest = set(), 0, 0
        for row in self.rows(table):
            demand(row[0] not in ids, f"`{table}` holds id {row[0]} twice")
            demand((row[1] - 1) // DAY + 1 == day, f"`{table}` holds time {row[1]}, not of day {day}")
            ids.add(row[0])
            byte_count_sum += row[9]
            digest += row_digest(row)
        return {"day": day, "partition": table, "rows": len(ids), "byte_count_sum": byte_count_sum,
                "digest": f"{digest % 2**64:016x}"}

    def read_production(self):
        ids, byte_count_sum, digest = set(), 0, 0
        for row in self.rows(self.production):
            demand(row[0] not in ids, f"`{self.production}` holds id {row[0]} twice")
            ids.add(row[0])
            byte_count_sum += row[9]
            digest += row_digest(row)
        return {"rows": len(ids), "byte_count_sum": byte_count_sum, "digest": f"{digest % 2**64:016x}"}

    def query(self, condition, parameters):
        sql = (f"SELECT COUNT(*) AS num_rows, COUNT(DISTINCT id) AS num_ids, SUM(byte_count) AS byte_count_sum"
               f" FROM `{self.dataset}.{self.staging}`{condition}")
        config = bigquery.QueryJobConfig(query_parameters=parameters, use_query_cache=False)
        job = self.client.query(
            sql, job_config=config, retry=RETRY, timeout=TIMEOUT_SECONDS, job_retry=None)
        rows = list(job.result(retry=RETRY, timeout=TIMEOUT_SECONDS))
        demand(len(rows) == 1, f"an aggregate gave {len(rows)} rows")
        return dict(rows[0].items())

    def query_production(self):
        sql = (f"SELECT COUNT(*) AS num_rows, COUNT(DISTINCT id) AS num_ids, SUM(byte_count) AS byte_count_sum"
               f" FROM `{self.dataset}.{self.production}`")
        row = list(self.client.query(sql, retry=RETRY, timeout=TIMEOUT_SECONDS, job_retry=None).result())[0]
        demand(row.num_rows == row.num_ids, f"`{self.production}` holds {row.num_rows} rows of {row.num_ids} ids")
        return {"rows": row.num_rows, "byte_count_sum": row.byte_count_sum or 0}

    def query_partition(self, day):
        parameter = bigquery.ScalarQueryParameter("day", "DATE", self.partition_date(day))
        answer = self.query(" WHERE _PARTITIONDATE = @day", [parameter])
        return {"rows": answer["num_rows"], "ids": answer["num_ids"],
                "byte_count_sum": answer["byte_count_sum"] or 0}

    def query_without_filter(self):
        try:
            answer = self.query("", [])
        except BadRequest as error:
            reason = error.errors[0].get("reason") if error.errors else None
            demand(reason == "invalidQuery", f"refused with reason {reason}: {error.message}")
            demand("filter over column" in error.message and "_PARTITION" in error.message,
                   f"refused, but the message names no partition filter: {error.message}")
            return {"reason": reason, "message": error.message}
        raise Unexpected(f"a query without a partition filter on `{self.staging}` gave {answer}")


def compare(answer, expected):
    """`expected` is what oracle.py printed for the same days."""
    oracle_days = {day["day"]: day for day in expected["days"]}
    for found in answer["staging"]:
        wanted = oracle_days.get(found["day"])
        demand(wanted is not None, f"the oracle says nothing about day {found['day']}")
        for ours, theirs in (("rows", "distinct_ids"), ("byte_count_sum", "byte_count_sum")):
            demand(found[ours] == wanted[theirs],
                   f"`{found['partition']}`: {ours} is {found[ours]}, the oracle says {wanted[theirs]}")
    for name, found in answer["production"].items():
        wanted = expected["production"][name]
        demand(found == wanted, f"production: {name} is {found}, the oracle says {wanted}")


def judge(args):
    judge = Judge(args)
    days = range(args.first_day, args.last_day + 1)
    if args.by_query:
        # A client that makes a Python object of every value needs a minute for a million rows.
        answer = {"staging": [
            {"day": day, "partition": f"day {day}", **judge.query_partition(day)} for day in days]}
        answer["production"] = judge.query_production()
    else:
        answer = {"staging": [judge.read_partition(day) for day in days]}
        answer["production"] = judge.read_production()
    for found in answer["staging"]:
        queried = judge.query_partition(found["day"])
        listed = {"rows": found["rows"], "ids": found["rows"], "byte_count_sum": found["byte_count_sum"]}
        demand(queried == listed,
               f"`{found['partition']}`: the query says {queried}, its rows say {listed}")
    answer["queried_partitions"] = len(days)
    answer["without_filter"] = judge.query_without_filter()
    if args.expect:
        with open(args.expect, encoding="utf-8") as file:
            compare(answer, json.load(file))
        answer["as_expected"] = True
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("emulator_url")
    parser.add_argument("project")
    parser.add_argument("dataset")
    parser.add_argument("--from", dest="first_day", type=int, required=True, help="first day, 1-based")
    parser.add_argument("--to", dest="last_day", type=int, required=True, help="last day, inclusive")
    parser.add_argument("--epoch", type=datetime.date.fromisoformat, default=datetime.date(2011, 1, 1),
                        help="partition date of day 1 (default 2011-01-01)")
    parser.add_argument("--staging", default="flows_staging")
    parser.add_argument("--production", default="flows")
    parser.add_argument("--by-query", action="store_true", help="let queries count and sum; read no rows")
    parser.add_argument("--expect", metavar="FILE", help="what oracle.py printed for the same days")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        answer = judge(args)
    except (Unexpected, GoogleAPIError, GoogleAuthError, RequestException, OSError) as error:
        sys.exit(f"judge: {error or type(error).__name__}")
    answer["seconds"] = round(time.monotonic() - started, 2)
    json.dump(answer, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
