#!/usr/bin/env python3
"""Packs FILE into FILE.gz, as two members one after the other, and FILE.bz2."""

import bz2
import gzip
import sys

with open(sys.argv[1], "rb") as file:
    plain = file.read()
half = len(plain) // 2
with open(sys.argv[1] + ".gz", "wb") as file:
    file.write(gzip.compress(plain[:half]) + gzip.compress(plain[half:]))
with open(sys.argv[1] + ".bz2", "wb") as file:
    file.write(bz2.compress(plain))
