#!/usr/bin/env python3
"""Says what the partitions and the production table must hold, from the source alone.

Shares no code with api2bq: urllib, xml.etree and json read each day's window, a dictionary keeps the
latest record per id. Prints one JSON document. Standard library only.
"""

import argparse
import gzip
import hashlib
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ElementTree

DAY = 86_400
COLUMNS = ("id", "time", "duration", "src_comp", "src_port", "dst_comp", "dst_port",
           "protocol", "packet_count", "byte_count")
STRINGS = {"src_comp", "src_port", "dst_comp", "dst_port"}


def row_digest(values):
    """64 bits of the canonical text of a row: its ten values, `|` between them."""
    text = "|".join(map(str, values))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def rows_from_xml(body):
    events = ElementTree.iterparse(body, events=("start", "end"))
    _, root = next(events)
    if root.tag != "records":
        raise ValueError(f"the root element is <{root.tag}>, expected <records>")
    for event, element in events:
        if event == "end" and element.tag == "record":
            if tuple(child.tag for child in element) != COLUMNS:
                raise ValueError(f"unexpected columns: {[child.tag for child in element]}")
            yield tuple(
                (child.text or "") if child.tag in STRINGS else int(child.text) for child in element)
            root.clear()


def rows_from_json(body):
    for line in body:
        record = json.loads(line)
        if tuple(record) != COLUMNS:
            raise ValueError(f"unexpected columns: {list(record)}")
        for name, value in record.items():
            if type(value) is not (str if name in STRINGS else int):
                raise ValueError(f"unexpected type in `{name}`: {value!r}")
        yield tuple(record.values())


def fetch(source, after, before, form, use_gzip):
    """The rows of one window; fails unless there are as many as the source announced."""
    url = (f"{source.rstrip('/')}/api/v1/stream/flows"
           f"?scanned_after={after}&scanned_before={before}&format={form}")
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"} if use_gzip else {})
    with urllib.request.urlopen(request, timeout=120) as response:
        packed = response.headers.get("Content-Encoding") == "gzip"
        body = gzip.GzipFile(fileobj=response) if packed else response
        announced = response.headers.get("x-record-count")
        count = 0
        for row in (rows_from_xml if form == "xml" else rows_from_json)(body):
            if not after < row[1] <= before:
                raise ValueError(f"{url}: record {row[0]} has time {row[1]}, outside its window")
            count += 1
            yield row
        if announced is not None and int(announced) != count:
            raise ValueError(f"{url}: {count} records, {announced} announced")


def expect(source, first_day, last_day, form, use_gzip):
    days = []
    # id -> (time, byte_count, digest). Time decides: a later day is also a later time, and of equal
    # times the last in the stream stays.
    latest = {}
    for day in range(first_day, last_day + 1):
        # Only the day's own rows: a partition knows nothing of the others.
        latest_of_day = {}
        records = 0
        for row in fetch(source, (day - 1) * DAY, day * DAY, form, use_gzip):
            records += 1
            earlier = latest_of_day.get(row[0])
            if earlier is None or row[1] >= earlier[0]:
                latest_of_day[row[0]] = (row[1], row[9], row_digest(row))
        days.append({
            "day": day,
            "records": records,
            "distinct_ids": len(latest_of_day),
            "duplicates": records - len(latest_of_day),
            "byte_count_sum": sum(kept[1] for kept in latest_of_day.values()),
        })
        latest.update(latest_of_day)
    return {
        "days": days,
        "records": sum(day["records"] for day in days),
        "staging_rows": sum(day["distinct_ids"] for day in days),
        "production": {
            "rows": len(latest),
            "byte_count_sum": sum(kept[1] for kept in latest.values()),
            "digest": f"{sum(kept[2] for kept in latest.values()) % 2**64:016x}",
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source_url")
    parser.add_argument("--from", dest="first_day", type=int, required=True, help="first day, 1-based")
    parser.add_argument("--to", dest="last_day", type=int, required=True, help="last day, inclusive")
    parser.add_argument("--format", choices=("xml", "json"), default="xml")
    parser.add_argument("--gzip", action="store_true", help="ask the source for gzip")
    args = parser.parse_args()
    started = time.monotonic()
    try:
        answer = expect(args.source_url, args.first_day, args.last_day, args.format, args.gzip)
    except urllib.error.HTTPError as error:
        sys.exit(f"oracle: HTTP {error.code}: {error.read().decode(errors='replace').strip()}")
    except (OSError, EOFError, ValueError, http.client.HTTPException, ElementTree.ParseError) as error:
        sys.exit(f"oracle: {error}")
    answer["seconds"] = round(time.monotonic() - started, 2)
    json.dump(answer, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
