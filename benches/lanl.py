#!/usr/bin/env python3
"""The reference case as a whole: LANL's 129,977,412 flows as XML over HTTP into day partitions, then promoted.

    python3 benches/lanl.py FOLDER [--api2bq target/release/api2bq] [--rows 129977412] [--until stage]

Source, embedded BigQuery and `api2bq` are processes of their own on the same cores. FOLDER is made, and keeps the
receipt, the memory curve and what `status` says; the whole needs about 20 GB there. Prints Markdown for
benches/README.md. `--until stage` neither loads nor promotes. Linux only: memory is read from /proc.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

DAYS = 58
SAMPLE_SECONDS = 0.5


def resident(pid):
    """MiB that a process holds; None once it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else None


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(folder, *command):
    """A server, and the URL that its first line names."""
    with open(folder / f"{command[1]}.err", "w") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)
    return process, re.search(r"http://[\w.:]+", process.stdout.readline())[0]


class Run:
    """One command to its end, and what it and the servers hold meanwhile."""

    def __init__(self, folder, name, command, environment, servers):
        self.curve, started = [], time.monotonic()
        before = {who: cpu_seconds(server.pid) for who, server in servers.items()}
        with open(folder / f"{name}.out", "w") as out, open(folder / f"{name}.err", "w") as err:
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            watched = {"api2bq": process, **servers}
            while True:
                held = {who: resident(one.pid) for who, one in watched.items()}
                self.curve.append((time.monotonic() - started, held))
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(SAMPLE_SECONDS)
        self.seconds = time.monotonic() - started
        self.cpu = {"api2bq": usage.ru_utime + usage.ru_stime}
        self.cpu |= {who: cpu_seconds(server.pid) - before[who] for who, server in servers.items()}
        self.peak = {who: max(held[who] or 0 for _, held in self.curve) for who in watched}
        self.peak["api2bq"] = usage.ru_maxrss / 1024
        with open(folder / f"{name}.memory.csv", "w") as file:
            print("seconds", *watched, sep=",", file=file)
            for at, held in self.curve:
                print(f"{at:.1f}", *(f"{mib:.0f}" if mib else "" for mib in held.values()), sep=",", file=file)
        if os.waitstatus_to_exitcode(status) != 0:
            sys.exit(f"{name} failed:\n{(folder / f'{name}.err').read_text()[-2000:]}")

    def row(self, name, rows):
        cpu = ", ".join(f"{who} {seconds:.1f}" for who, seconds in self.cpu.items())
        peak = ", ".join(f"{who} {mib:.0f}" for who, mib in self.peak.items())
        return f"| {name} | {self.seconds:.1f} | {rows / self.seconds:,.0f} | {cpu} | {peak} |"

    def tenths(self):
        """The curve in ten steps: what is held at most in each tenth of the time."""
        for i in range(10):
            low, high = self.seconds * i / 10, self.seconds * (i + 1) / 10
            held = [held for at, held in self.curve if low <= at < high and all(held.values())]
            if held:
                yield f"| {low:.0f} to {high:.0f} | " + " | ".join(f"{max(h[w] for h in held):.0f}" for w in held[0]) + " |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--api2bq", default="target/release/api2bq")
    arguments.add_argument("--rows", type=int, default=129_977_412)
    arguments.add_argument("--until", choices=["stage", "load"], default="load")
    args = arguments.parse_args()
    folder, api2bq = args.folder.resolve(), str(Path(args.api2bq).resolve())
    folder.mkdir(parents=True)

    source, url = serve(folder, api2bq, "source", "--port", "0", "--rows", str(args.rows), "--days", str(DAYS))
    servers = {"source": source}
    try:
        environment = dict(os.environ)
        if args.until == "load":
            warehouse, at = serve(folder, api2bq, "emulator", "--port", "0", "--data-dir", str(folder / "warehouse"))
            servers["emulator"] = warehouse
            environment["BIGQUERY_EMULATOR_HOST"] = at
        stage = f"stage.url={folder / 'stage'}"
        backfill = [api2bq, "backfill", "flows", "--from", "1", "--to", str(DAYS), "--until", args.until]
        backfill += ["--progress", "off", "--summary-json", str(folder / "receipt.json"), "--set", stage]
        backfill += ["--set", f"source.url={url}/api/v1/stream/flows", "--set", "source.gzip=off"]
        runs = {"backfill": Run(folder, "backfill", backfill, environment, servers)}
        status = [api2bq, "status", "flows", "--set", stage]
        (folder / "status.txt").write_text(subprocess.run(status, capture_output=True, text=True, env=environment).stdout)
        if args.until == "load":
            promote = [api2bq, "promote", "flows", "--days", str(DAYS), "--progress", "off", "--set", stage]
            runs["promote"] = Run(folder, "promote", promote, environment, servers)
    finally:
        for server in servers.values():
            server.kill()

    print("| what | seconds | records/s | CPU s | peak MiB |\n|---|--:|--:|---|---|")
    for name, run in runs.items():
        print(run.row(f"`{name}`", args.rows))
    for name, run in runs.items():
        print(f"\n`{name}`, MiB held at most in each tenth of the time\n\n| seconds | api2bq | " + " | ".join(servers) + " |")
        print("|---" * (2 + len(servers)) + "|")
        print(*run.tenths(), sep="\n")
    receipt = json.loads((folder / "receipt.json").read_text())
    del receipt["windows"]
    print("\n```json\n" + json.dumps(receipt) + "\n```")
    print("\n```text\n" + (folder / "status.txt").read_text() + "```")


if __name__ == "__main__":
    main()
