#!/usr/bin/env python3
"""Runs the same job with api2bq and with what people use today, in turn, and prints a table.

    python3 benches/peers/run.py FOLDER [--api2bq target/release/api2bq] [--rows 1000000] [--runs 3] [--only duckdb,lxml]

Makes a virtual environment in FOLDER/venv with the versions of requirements.txt (600 MB from PyPI, once), starts
`api2bq source`, and lets every job bring the records (latest per id and day, Parquet by day) into an empty folder.
Jobs take turns, so that a slow hour of the machine is everybody's; medians count. The server is on the same cores
as the jobs. CPU and peak memory are those of the job's process. The answer of the first round is read back and
compared, value by value, with that of a dictionary.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Job, who, input.
PEERS = [
    ("api2bq", "**api2bq**", "XML over HTTP"),
    ("api2bq-ndjson", "**api2bq**", "NDJSON file"),
    ("chdb-xml", "chDB, a row template of these very bytes", "XML over HTTP"),
    ("lxml", "lxml iterparse, Polars", "XML over HTTP"),
    ("dlt", "dlt, lxml dicts merged in DuckDB", "XML over HTTP"),
    ("duckdb", "DuckDB", "NDJSON file"),
    ("polars", "Polars", "NDJSON file"),
    ("chdb", "chDB", "NDJSON file"),
]


def venv(folder):
    """The environment's Python; made anew when the versions change."""
    wanted = (HERE / "requirements.txt").read_text()
    home, stamp = folder / "venv", folder / "venv" / "installed.txt"
    python = home / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]
        subprocess.run([*pip, HERE / "requirements.txt"], check=True)
        stamp.write_text(wanted)
    return python


def measured(command, log):
    """Wall and CPU seconds, and the highest resident memory in MiB."""
    with open(log, "w") as out:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        return None
    # Linux counts in KiB, macOS in bytes.
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit


def command(job, python, api2bq, url, ndjson, days, out):
    if job.startswith("api2bq"):
        source = ["source.url=" + (url if job == "api2bq" else str(ndjson))]
        if job != "api2bq":
            source.append("source.format=ndjson")
        fixed = [api2bq, "backfill", "flows", "--from", "1", "--to", str(days), "--until", "stage", "--progress", "off"]
        sets = [word for pair in [*source, f"stage.url={out}"] for word in ("--set", pair)]
        return [*fixed, *sets]
    given = ndjson if job in ("duckdb", "polars", "chdb") else f"{url}?scanned_before={days * 86400}"
    return [python, HERE / "jobs.py", job, given, out]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--api2bq", type=Path, default=HERE.parent.parent / "target" / "release" / "api2bq")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--days", type=int, default=3)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--only", default="", help="jobs, separated by commas: " + ", ".join(p[0] for p in PEERS))
    args = arguments.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    folder, api2bq = args.folder.resolve(), args.api2bq.resolve()
    peers = [peer for peer in PEERS if not args.only or peer[0] in args.only.split(",")]
    python = venv(folder)

    made = ["--rows", str(args.rows), "--days", str(args.days), "--duplicates", "0.03", "--seed", "7"]
    source = subprocess.Popen([api2bq, "source", "--port", "0", *made], stdout=subprocess.PIPE, text=True)
    try:
        url = next(word for word in source.stdout.readline().split() if word.startswith("http://"))
        ndjson = folder / "flows.ndjson"
        with urllib.request.urlopen(f"{url}?scanned_before={args.days * 86400}&format=json") as body, open(ndjson, "wb") as file:
            shutil.copyfileobj(body, file)

        def answer(form, path):
            # In a process of its own: what this one holds would count as memory of the jobs it starts.
            said = subprocess.run([python, HERE / "answer.py", form, path], capture_output=True, text=True)
            return said.stdout or said.stderr.strip().splitlines()[-1]

        right = answer("ndjson", ndjson)
        times, verdicts = {job: [] for job, _, _ in peers}, {}
        for run in range(args.runs):
            for job, who, given in peers:
                out = folder / f"out-{job}"
                for left in folder.glob(f"out-{job}*"):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
                out.mkdir()
                log = folder / f"{job}.log"
                figures = measured(command(job, python, api2bq, url, ndjson, args.days, out), log)
                print(f"run {run + 1}: {job}: {figures and round(figures[0], 2)} s", file=sys.stderr)
                if figures is None:
                    verdicts[job] = f"failed, see {log}"
                    continue
                times[job].append(figures)
                if run == 0:
                    verdicts[job] = "right" if answer("parquet", out) == right else "wrong"
    finally:
        source.kill()
        source.wait()

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{args.rows:,} records over {args.days} days, {ndjson.stat().st_size / 1e6:.0f} MB as NDJSON; {cores} cores,")
    print(f"{platform.machine()}, {platform.system()} {platform.release()}; medians of {args.runs} runs in turn, {time.strftime('%Y-%m-%d')}\n")
    print("| who | input | wall s | rows/s | CPU s | peak MiB | answer |\n|---|---|--:|--:|--:|--:|---|")
    for job, who, given in peers:
        if not times[job]:
            print(f"| {who} | {given} | | | | | {verdicts[job]} |")
            continue
        wall, cpu, peak = (statistics.median(column) for column in zip(*times[job]))
        print(f"| {who} | {given} | {wall:.2f} | {args.rows / wall:,.0f} | {cpu:.2f} | {peak:.0f} | {verdicts[job]} |")


if __name__ == "__main__":
    main()
