#!/usr/bin/env python3
"""Writes what a flows URL sends (format=json) as LANL publishes it: lanl.py URL FILE.gz.

Nine columns without a header; the id is left out, since it is the number of the line.
"""

import gzip
import json
import sys
import urllib.request

from oracle import COLUMNS

with urllib.request.urlopen(sys.argv[1]) as response, gzip.open(sys.argv[2], "wt") as file:
    for line in response:
        record = json.loads(line)
        file.write(",".join(str(record[name]) for name in COLUMNS[1:]) + "\n")
