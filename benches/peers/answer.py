"""What came out, in numbers that no two different answers share by accident.

    python answer.py ndjson FILE      what is right, by a dictionary
    python answer.py parquet FOLDER   what a job wrote: files of a day under `day=N/` or `YYYYMMDD/`
"""

import datetime
import json
import re
import sys
import zlib
from collections import Counter
from pathlib import Path

from jobs import COLUMNS, DAY

EPOCH = datetime.date(2011, 1, 1)


def answer(rows):
    """`rows` gives a day and the ten values. Every value is in `crc`, the order of rows is not."""
    total, crc, sums, days = 0, 0, Counter(), Counter()
    for day, values in rows:
        if (values[1] - 1) // DAY + 1 != day:
            sys.exit(f"a record of second {values[1]} is in day {day}")
        total += 1
        days[day] += 1
        sums["packet_count"] += values[8]
        sums["byte_count"] += values[9]
        crc += zlib.crc32(",".join(map(str, values)).encode())
    return {"rows": total, "days": dict(sorted(days.items())), "sums": sums, "crc": crc}


def of_ndjson(path):
    latest = {}
    with open(path) as lines:
        for line in lines:
            record = json.loads(line)
            values = tuple(record[name] for name in COLUMNS)
            key = (values[0], (values[1] - 1) // DAY + 1)
            if key not in latest or latest[key][1] < values[1]:
                latest[key] = values
    return answer((day, values) for (_, day), values in latest.items())


def of_parquet(folder):
    import pyarrow.parquet as parquet

    def rows():
        for file in sorted(Path(folder).rglob("*.parquet")):
            name = file.parent.name
            if found := re.fullmatch(r"day=(\d+)", name):
                day = int(found[1])
            else:
                day = (datetime.datetime.strptime(name, "%Y%m%d").date() - EPOCH).days + 1
            for batch in parquet.ParquetFile(file).iter_batches(columns=COLUMNS):
                columns = [batch.column(name).to_pylist() for name in COLUMNS]
                yield from ((day, values) for values in zip(*columns))

    return answer(rows())


if __name__ == "__main__":
    form, path = sys.argv[1:]
    print(json.dumps(of_ndjson(path) if form == "ndjson" else of_parquet(path), sort_keys=True))
