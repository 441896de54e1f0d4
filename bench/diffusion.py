# SPDX-License-Identifier: Apache-2.0
"""Judges the pictures that bench-diffusion has written: tables, and quality against speed.

    python3 bench/diffusion.py DIR [--cpu | --counted] [--timed DIR]

DIR/runs.csv has a line for each method, setting and seed, with the time, the counted multiplications,
what the steps were, and the .npy file of the pictures, whose classes go in turn.  In DIR it writes
scores.csv (a line for each run), summary.csv and summary.md (a line for each setting, mean and
standard deviation over the seeds), and, if gnuplot is installed, quality.svg (FID and difference from
plain against speed) and recognised.svg.  It needs numpy alone.

The speed-up of a run is that over the plain sampler's run of the same seed, "over plain" by how much its
FID is higher, which varies far less from seed to seed than FIDs do; "off plain" is the root mean square
difference of the two runs' pictures (-1 to 1), which begin with the same noise.  --timed takes
the times of other runs of the same settings, with fewer samples on a quiet machine say; --cpu takes
the processor's time in place of the clock's, for runs with one thread on a busy one; --counted leaves
times out, for runs that were stopped and went on: what they counted is all the same.
"""
import argparse
import csv
import math
import shutil
import subprocess
from pathlib import Path

from judge import Judge, fail

import numpy as np

SHARES = ("computed", "partial", "reused", "forecast", "skipped", "verified", "rejected")
NUMBERS = ("seed", "steps", "guidance", "samples", "seconds", "macs", "macs_plain") + SHARES
COLUMNS = ("method", "setting", "file") + NUMBERS
SCORES = ("fid", "fid_over", "recognised", "off_plain", "speedup", "work")
TITLES = {"none": "plain", "fewer": "fewer steps", "fora": "FORA", "toca": "ToCa", "duca": "DuCa",
          "l2c": "L2C", "speca": "SpeCa"}
COLOURS = {"fewer": "#808080", "fora": "#d55e00", "toca": "#e69f00", "duca": "#56b4e9", "l2c": "#009e73",
           "speca": "#5e3c99"}


# ---------------------------------------------------------------------------------------------
# Runs.


def read_runs(folder, cpu):
    """Rows of runs.csv; cpu: their seconds are the processor's."""
    path = folder / "runs.csv"
    try:
        with open(path, newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        fail(f"cannot read {path}: {e}")
    if not rows:
        fail(f"{path}: there are no runs in it")
    for at, row in enumerate(rows, 2):
        if cpu:
            row["seconds"] = row.get("cpu_seconds")
        for key in COLUMNS:
            if row.get(key) is None:
                name = "cpu_seconds" if cpu and key == "seconds" else key
                fail(f"{path}, line {at}: the column {name} is missing")
        for key in NUMBERS:
            try:
                row[key] = float(row[key])
            except ValueError:
                fail(f"{path}, line {at}: {key} is {row[key]!r}, a number is wanted")
            if not math.isfinite(row[key]):
                fail(f"{path}, line {at}: {key} is not finite")
        if row["seconds"] <= 0 or row["macs"] <= 0:
            fail(f"{path}, line {at}: seconds and macs have to be above 0")
    return rows


def pictures_of(folder, row):
    path = folder / row["file"]
    try:
        x = np.load(path)
    except (OSError, ValueError, EOFError) as e:
        fail(f"cannot read {path}: {e}")
    if len(x) != row["samples"]:
        fail(f"{path}: {len(x)} pictures, {row['samples']:.0f} are said to be there")
    return x.astype(np.float64)


def plain_run(rows, row):
    """The plain sampler's run of the same seed, with the most steps that there are."""
    found = [r for r in rows if r["method"] == "none" and r["seed"] == row["seed"]]
    if not found:
        fail(f"there is no run of the method none with the seed {row['seed']:.0f} to compare with")
    return max(found, key=lambda r: r["steps"])


def speedups(rows):
    """{(method, setting): median speed-up over the seeds} of runs."""
    ratios = {}
    for row in rows:
        ratio = plain_run(rows, row)["seconds"] / row["seconds"]
        ratios.setdefault((row["method"], row["setting"]), []).append(ratio)
    return {k: float(np.median(v)) for k, v in ratios.items()}


def score(folder, rows, judge, timed):
    """Adds SCORES to the rows; timed: speedups() of other runs, or None."""
    for row in rows:
        plain, x = plain_run(rows, row), pictures_of(folder, row)
        row["fid"], row["recognised"] = judge.judge(x, np.arange(len(x)) % 10)
        if len(x) != plain["samples"]:
            fail(f"{row['file']}: another number of pictures than {plain['file']}")
        row["off_plain"] = math.sqrt(((x - pictures_of(folder, plain)) ** 2).mean())
        row["speedup"] = plain["seconds"] / row["seconds"]
        if timed is not None:
            key = (row["method"], row["setting"])
            if key not in timed:
                fail(f"--timed: there is no run of {' '.join(key).strip()}")
            row["speedup"] = timed[key]
        row["work"] = plain["macs"] / row["macs"]
    for row in rows:
        row["fid_over"] = row["fid"] - plain_run(rows, row)["fid"]


# ---------------------------------------------------------------------------------------------
# Tables.


def summed(rows):
    """A row for each method and setting: {column: (mean, standard deviation)}, in the runs' order."""
    groups = {}
    for row in rows:
        groups.setdefault((row["method"], row["setting"]), []).append(row)
    out = []
    for (method, setting), runs in groups.items():
        spread = {k: (float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else math.nan)
                  for k in SCORES + NUMBERS for v in ([r[k] for r in runs],)}
        out.append({"method": method, "setting": setting, "runs": len(runs)} | spread)
    return out


def write_csv(path, rows, keys):
    with open(path, "w", newline="", encoding="utf-8") as f:
        w = csv.writer(f, lineterminator="\n")
        w.writerow(keys)
        for row in rows:
            w.writerow([f"{row[k]:.6g}" if isinstance(row[k], float) else row[k] for k in keys])


def flat(rows):
    """summed() with columns NAME and NAME_sd."""
    return [{k: v for k, v in row.items() if not isinstance(v, tuple)}
            | {k: v[0] for k, v in row.items() if isinstance(v, tuple)}
            | {f"{k}_sd": v[1] for k, v in row.items() if k in SCORES and isinstance(v, tuple)}
            for row in rows]


def with_spread(pair, digits):
    mean, deviation = pair
    return f"{mean:.{digits}f}" + ("" if math.isnan(deviation) else f" ± {deviation:.{digits}f}")


def table(rows, counted):
    """Markdown; shares of steps in percent. counted: without speed-ups."""
    speed = "" if counted else " speed-up |"
    lines = [f"| method | setting | steps |{speed} counted | FID | over plain | recognised | off plain | computed | "
             "partial | reused | forecast | skipped | verified | rejected |",
             "|---|---|---:|" + ("" if counted else "---:|") + "---:|" * (5 + len(SHARES))]
    for r in rows:
        shares = " | ".join(f"{100 * r[k][0]:.0f} %" for k in SHARES)
        speed = "" if counted else f"{with_spread(r['speedup'], 2)} | "
        lines.append(f"| {TITLES.get(r['method'], r['method'])} | {r['setting']} | "
                     f"{r['steps'][0]:.0f} | {speed}{r['work'][0]:.2f} | "
                     f"{with_spread(r['fid'], 3)} | {with_spread(r['fid_over'], 3)} | "
                     f"{with_spread(r['recognised'], 4)} | {with_spread(r['off_plain'], 3)} | {shares} |")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------------------------------
# Pictures.


def curves(rows, x, y):
    """gnuplot's data blocks and plot command: one curve a method, by rising x, from the plain point."""
    there = {r["method"] for r in rows}
    methods = [m for m in COLOURS if m in there] + sorted(there - set(TITLES))
    plain = [r for r in rows if r["method"] == "none"]
    blocks, plots = [], []
    for i, method in enumerate(methods):
        points = sorted((r[x][0], r[y][0], 0 if math.isnan(r[y][1]) else r[y][1])
                        for r in plain + [r for r in rows if r["method"] == method])
        name = f"${y}{i}_{x}"
        blocks.append(f"{name} << EOD\n" + "".join("%g %g %g\n" % p for p in points) + "EOD\n")
        colour = f"linecolor rgb '{COLOURS.get(method, 'black')}'"
        plots.append(f"{name} using 1:2:3 with yerrorlines linewidth 2 pointtype {i + 4} {colour} "
                     f"title '{TITLES.get(method, method)}'")
    return "".join(blocks), "plot " + ", ".join(plots) + "\n"


def draw(path, panels, rows, title):
    """panels: (x, its label, y, its label); one beside the other."""
    script = (f"set terminal svg size {520 * len(panels)},400 dynamic background 'white'\n"
              f"set output '{path.name}'\nset multiplot layout 1,{len(panels)} title '{title}'\n"
              "set grid\n")
    for x, x_label, y, y_label in panels:
        blocks, plot = curves(rows, x, y)
        script += (f"set key {'bottom right' if y == 'recognised' else 'top left'}\n"
                   f"set xlabel '{x_label}'\nset ylabel '{y_label}'\n{blocks}{plot}")
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True, check=False,
                          cwd=path.parent)
    if done.returncode != 0:
        fail(f"gnuplot made no {path.name}: {(done.stderr.splitlines() or ['no reason given'])[-1]}")


def draw_all(folder, rows, cpu, counted):
    if not shutil.which("gnuplot"):
        print("no pictures: gnuplot is not installed")
        return
    if len({r["method"] for r in rows}) < 2:
        print("no pictures: there is only one method")
        return
    lossy = "(all but plain are lossy)"
    x, label = (("work", f"speed-up, by counted multiplications {lossy}") if counted else
                ("speedup", f"speed-up, {'processor time' if cpu else 'measured'} {lossy}"))
    fid = "FID over that of plain (lower is better)"
    draw(folder / "quality.svg", [(x, label, "fid_over", fid),
                                  (x, label, "off_plain", "difference from plain")], rows,
         f"quality against {'work' if counted else 'speed'}")
    other = [] if counted else [("work", "multiplications, times fewer", "fid_over", fid)]
    draw(folder / "recognised.svg", [(x, label, "recognised", "share recognised"), *other], rows,
         "what is recognised")
    print(f"wrote {folder}/quality.svg and recognised.svg")


def main():
    a = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("folder", type=Path, help="what bench-diffusion has written")
    a.add_argument("--classifier", type=Path, help="models/digits-classifier.npz",
                   default=Path(__file__).resolve().parents[1] / "models" / "digits-classifier.npz")
    a.add_argument("--cpu", action="store_true", help="speed-ups of processor time")
    a.add_argument("--counted", action="store_true", help="no times, but counted multiplications")
    a.add_argument("--timed", type=Path, metavar="DIR", help="where the times are taken from")
    args = a.parse_args()
    rows = read_runs(args.folder, args.cpu)
    timed = speedups(read_runs(args.timed, args.cpu)) if args.timed else None
    score(args.folder, rows, Judge(args.classifier), timed)
    groups = summed(rows)
    try:
        write_csv(args.folder / "scores.csv", rows, COLUMNS + SCORES)
        lines = flat(groups)
        write_csv(args.folder / "summary.csv", lines, list(lines[0]))
        (args.folder / "summary.md").write_text(table(groups, args.counted), encoding="utf-8")
    except OSError as e:
        fail(f"cannot write into {args.folder}: {e}")
    print(table(groups, args.counted), end="")
    draw_all(args.folder, groups, args.cpu, args.counted)


if __name__ == "__main__":
    main()
