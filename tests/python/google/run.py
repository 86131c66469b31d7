#!/usr/bin/env python3
"""Runs Google's own system tests for its Python client against an embedded BigQuery.

    run.py WORK_FOLDER EMULATOR_URL [pytest arguments]

Makes a virtual environment and fetches the client's sdist below WORK_FOLDER (a few hundred MB, once), runs
its tests/system unmodified, with nobody's credentials, and prints how many passed. Exits 1 when a test
of passing.txt beside this file does not pass any more; `--update` writes that list anew.

The tests of the BigQuery Storage API, of policy tags and of resource tags speak gRPC to Google, those of
public data read Google's tables: they cannot pass here.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree

VERSION = "3.47.0"
HERE = pathlib.Path(__file__).resolve().parent
PASSING = HERE / "passing.txt"


def environment(work):
    """The virtual environment's Python."""
    python = work / "venv/bin/python"
    stamp = work / "installed.txt"
    wanted = (HERE / "requirements.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        # A link goes; what it leads to is not ours to clear.
        if (work / "venv").is_symlink():
            (work / "venv").unlink()
        subprocess.run([sys.executable, "-m", "venv", "--clear", work / "venv"], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return python


def sources(work, python):
    """The unpacked sdist, with its tests."""
    root = work / f"google_cloud_bigquery-{VERSION}"
    if not root.exists():
        name = f"google-cloud-bigquery=={VERSION}"
        fetch = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", name]
        subprocess.run([*fetch, "--dest", work], check=True)
        with tarfile.open(work / f"google_cloud_bigquery-{VERSION}.tar.gz") as archive:
            archive.extractall(work)
    return root


def main():
    arguments = [a for a in sys.argv[1:] if a != "--update"]
    work, url, more = pathlib.Path(arguments[0]).resolve(), arguments[1], arguments[2:]
    work.mkdir(parents=True, exist_ok=True)
    python = environment(work)
    root = sources(work, python)
    report = work / "report.xml"
    report.unlink(missing_ok=True)
    pytest = [python, "-m", "pytest", "tests/system", "-p", "anonymous", "-p", "no:cacheprovider"]
    # Most of the time goes into waiting for services that are not here.
    pytest += ["-n", "6", "-q", "--timeout", "45", "--tb", "line", "-W", "ignore", f"--junit-xml={report}", *more]
    services = {
        "BIGQUERY_EMULATOR_HOST": url,
        "STORAGE_EMULATOR_HOST": url,
        "GOOGLE_CLOUD_PROJECT": "api2gbq",
        "PYTHONPATH": str(HERE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(pytest, cwd=root, env={**os.environ, **services}, stdout=sys.stderr)

    passed, others = set(), {}
    for case in ElementTree.parse(report).iter("testcase"):
        # A test that passed and could not clean up is there twice.
        name = f"{case.get('classname')}::{case.get('name')}".replace("tests.system.", "", 1)
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), None)
        if outcome is None:
            passed.add(name)
        else:
            others[name] = outcome
    passed -= others.keys()
    for name, outcome in sorted(others.items()):
        print(f"{outcome:8} {name}")
    print(f"{len(passed)} of {len(passed) + len(others)} pass")
    if "--update" in sys.argv:
        PASSING.write_text("".join(f"{name}\n" for name in sorted(passed)))
        return
    lost = [] if more else sorted(set(PASSING.read_text().splitlines()) - passed)
    for name in lost:
        print(f"passed before: {name}")
    sys.exit(1 if lost else 0)


main()
