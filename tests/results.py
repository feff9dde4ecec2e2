#!/usr/bin/env python3
"""What long runs showed, kept beside them: tables whose rows say when, and of which revision, they were last made.

  tests/results.py cases|variants|control|drill|guards|move|revoked VERDICTS.json # what a test wrote
  tests/results.py interop SEEN.tsv
  … | tests/results.py fuzz                                # lines `PASS|FAIL TARGET: RUNS runs`
  … | tests/results.py release                             # lines `WHAT`, a tab, what was shown; only of what passed

Suites and faults use `write` themselves. A run of a part writes its own rows and leaves the others as they were.
"""
import json
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]


def revision():
    """The commit, with a `+` where tracked files are not as in it; results themselves do not count."""
    git = lambda *more: subprocess.run(["git", "-C", str(ROOT), *more], capture_output=True, text=True, check=True).stdout.strip()
    return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", ".", ":(exclude,glob)**/RESULTS*.md") else "")


def cell(text):
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").strip()


def write(path, command, columns, rows):
    """Replaces the rows with these first cells; the last two columns are the day (UTC) and the revision."""
    stamp = (time.strftime("%Y-%m-%d", time.gmtime()), revision())
    new = {cell(row[0]): "| " + " | ".join(cell(c) for c in (*row, *stamp)) + " |" for row in rows}
    path = ROOT / path
    head = ["| " + " | ".join((*columns, "Day", "Revision")) + " |", "|---" * (len(columns) + 2) + "|"]
    old = path.read_text().splitlines() if path.exists() else []
    # Rows of another table are not ours to keep.
    kept = [line for line in old if line.startswith("| ")][1:] if head[0] in old else []
    lines = {line.split(" | ")[0][2:]: line for line in kept}
    lines.update(new)
    text = [f"Written by `{command}`. A row names the day and the revision of its last run; `+`: with changes that were not committed.", "", *head, *lines.values()]
    path.write_text("\n".join(text) + "\n")


def cases(path, command, verdicts):
    report = json.loads(verdicts.read_text())
    rows = []
    for group, count in [*report["groups"].items(), ("all", report["total"])]:
        of = [case for case in report["cases"] if case["group"] == group]
        said = lambda verdict, what: "; ".join(f"{case['id']}: {'; '.join(case[what])}" for case in of if case["verdict"] == verdict and case[what]) or "-"
        rows.append((group, count["passed"], count["failed"], count["skipped"], said("fail", "reasons"), said("skip", "reasons"), said("pass", "measured")))
    if "sent" in report:
        rows[-1] = (*rows[-1][:5], f"{report['sent']} variants were sent", "-")
    write(path, command, ("Group", "Passed", "Failed", "Skipped", "What failed", "What was skipped", "What was measured"), rows)


def main():
    kind, *given = sys.argv[1:]
    if given and not pathlib.Path(given[0]).exists():
        return  # It did not come so far.
    if kind == "cases":
        cases("tests/security/RESULTS.md", "make cases", pathlib.Path(given[0]))
    elif kind == "variants":
        cases("tests/security/RESULTS-variants.md", "make variants", pathlib.Path(given[0]))
    elif kind == "control":
        report = json.loads(pathlib.Path(given[0]).read_text())
        held = report["total"]["passed"] + report["total"]["failed"]
        rows = [(group, count["failed"], count["passed"], count["skipped"]) for group, count in [*report["groups"].items(), ("all", report["total"])]]
        write("tests/security/RESULTS-control.md", "make control", ("Group", "Fails, as it must", "Passes", "Cannot be held against it"), rows)
        share = report["total"]["failed"] / held if held else 0
        print(f"the naive proxy fails {report['total']['failed']} of {held} cases ({share * 100:.0f} %)")
        # Cases that a proxy of an afternoon passes prove little.
        if share < 0.5 or held < 100:
            sys.exit("that is too few")
    elif kind == "drill":
        rows = json.loads(pathlib.Path(given[0]).read_text())
        write("tests/drill/RESULTS.md", "make drill", ("What", "With the rollback", "Without it"), rows)
    elif kind == "guards":
        rows = sorted(json.loads(line) for line in pathlib.Path(given[0]).read_text().splitlines())
        write("tests/RESULTS-guards.md", "make guards", ("What was simulated", "What was found"), rows)
    elif kind == "figures":
        rows = json.loads(pathlib.Path(given[0]).read_text())
        write("benches/RESULTS.md", "make bench-figures", ("What", "At most", "Measured", ""), rows)
    elif kind == "move":
        rows = [json.loads(line) for line in pathlib.Path(given[0]).read_text().splitlines()]
        rows = sorted((who, f"{moved:g}", *rest) for who, moved, *rest in rows)
        write("tests/integration/RESULTS.md", "make move", ("Stage, and who comes to it", "At the new side", "Sign-ins", "Not needed", "Header changes", "Lost links"), rows)
    elif kind == "revoked":
        rows = sorted(json.loads(line) for line in pathlib.Path(given[0]).read_text().splitlines())
        write("tests/integration/RESULTS-revoked.md", "make revoked", ("What is revoked, and what of it is over", "Sooner than", "The slowest", "Times"), rows)
    elif kind == "interop":
        (_, *clients), *steps = [line.split("\t") for line in pathlib.Path(given[0]).read_text().splitlines()]
        expected = dict(line.split("\t", 1) for line in (ROOT / "tests/interop/expected.tsv").read_text().splitlines())
        rows = [(step, *told, "as expected" if expected.get(step) == "\t".join(told) else "ANOTHER") for step, *told in steps]
        write("tests/interop/RESULTS.md", "make interop", ("Step", *clients, ""), rows)
    elif kind == "fuzz":
        found = re.findall(r"^(PASS|FAIL) (\w+)(?:: (\S+) runs in (\d+) s)?", sys.stdin.read(), re.M)
        rows = [(target, runs or "-", seconds or "-", word.lower()) for word, target, runs, seconds in found]
        write("fuzz/RESULTS.md", "make fuzz", ("Target", "Runs", "Seconds", ""), rows)
    elif kind == "release":
        rows = [(*line.split("\t"), "pass") for line in sys.stdin.read().splitlines()]
        write("deploy/RESULTS.md", "make sbom repro advisories", ("What", "Shown", ""), rows)
    else:
        sys.exit(f"what is {kind}?")


if __name__ == "__main__":
    main()
