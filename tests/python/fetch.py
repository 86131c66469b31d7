#!/usr/bin/env python3
"""Saves what a URL sends: fetch.py URL FILE."""

import shutil
import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1]) as response, open(sys.argv[2], "wb") as file:
    shutil.copyfileobj(response, file)
