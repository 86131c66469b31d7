#!/usr/bin/env python3
"""Compares tables with the source row by row, as often as asked: compare.py SOURCE_URL --to DAYS.

Reads what must be there once, as oracle.py does. Then each line of stdin names tables, as
`EMULATOR_URL PROJECT DATASET` or with `TABLE` behind it for a production table, and is answered by one
line of JSON: rows that are missing, doubled, wrong or not the source's, and examples of them.
Standard library only; shares no code with api2bq.
"""

import argparse
import collections
import datetime
import json
import sys
import urllib.request

from oracle import COLUMNS, DAY, fetch

EPOCH = datetime.date(2011, 1, 1)
EXAMPLES_MAX = 5


def expected_by_day(source, days):
    """Per day: id -> the row, as texts, that a partition must hold."""
    by_day = {}
    for day in range(1, days + 1):
        latest = {}
        for row in fetch(source, (day - 1) * DAY, day * DAY, "xml", False):
            earlier = latest.get(row[0])
            if earlier is None or row[1] >= earlier[1]:
                latest[row[0]] = row
        by_day[day] = {str(row[0]): tuple(map(str, row)) for row in latest.values()}
    return by_day


def get(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def read(dataset_url, table):
    """The rows of a table or partition, page by page, in the order of the pipeline's columns."""
    fields = get(f"{dataset_url}/tables/{table.split('$')[0]}")["schema"]["fields"]
    places = [[field["name"] for field in fields].index(name) for name in COLUMNS]
    url = f"{dataset_url}/tables/{table.replace('$', '%24')}/data"
    token = ""
    while token is not None:
        page = get(f"{url}?pageToken={token}" if token else url)
        for row in page.get("rows", []):
            values = [cell["v"] for cell in row["f"]]
            yield tuple(values[place] for place in places)
        token = page.get("pageToken")


def difference(expected, rows):
    times = collections.Counter()
    result = {"rows": 0, "lost": 0, "doubled": 0, "wrong": 0, "foreign": 0, "examples": []}

    def note(what, example):
        result[what] += 1
        if len(result["examples"]) < EXAMPLES_MAX:
            result["examples"].append(f"{what}: {example}")

    for row in rows:
        result["rows"] += 1
        times[row[0]] += 1
        if times[row[0]] > 1:
            note("doubled", row)
        elif row[0] not in expected:
            note("foreign", row)
        elif expected[row[0]] != row:
            note("wrong", f"{row} is not {expected[row[0]]}")
    for key in expected:
        if key not in times:
            note("lost", expected[key])
    return result


def staging(by_day, dataset_url):
    """All partitions, and that there are no rows besides them."""
    total = collections.Counter()
    examples = []
    for day, expected in by_day.items():
        date = EPOCH + datetime.timedelta(days=day - 1)
        found = difference(expected, read(dataset_url, f"flows_staging${date:%Y%m%d}"))
        examples += found.pop("examples")
        total.update(found)
    in_table = int(get(f"{dataset_url}/tables/flows_staging")["numRows"])
    if in_table != total["rows"]:
        total["foreign"] += abs(in_table - total["rows"])
        examples.append(f"the table has {in_table} rows, its partitions {total['rows']}")
    return {**total, "examples": examples}


def production(by_day, dataset_url, table):
    latest = {}
    for expected in by_day.values():
        latest.update(expected)
    return difference(latest, read(dataset_url, table))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source_url")
    parser.add_argument("--to", dest="days", type=int, required=True, help="days, from 1")
    args = parser.parse_args()
    by_day = expected_by_day(args.source_url, args.days)
    print(json.dumps({"expected": sum(map(len, by_day.values()))}), flush=True)
    for line in sys.stdin:
        emulator_url, project, dataset, *table = line.split()
        dataset_url = f"{emulator_url}/bigquery/v2/projects/{project}/datasets/{dataset}"
        try:
            answer = production(by_day, dataset_url, *table) if table else staging(by_day, dataset_url)
        except (OSError, ValueError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
