"""The accuracy benchmark, one noun a file: `Testing/benchmarks/bench_accuracy.py` runs it.

    scans.py     which scans there are, with their reference
    job.py       one piece of work and what it depends on
    plan.py      all jobs of a run, and what is left out and why
    pool.py      jobs in processes of their own, side by side; finished ones are skipped
    work.py      what happens in such a process
    methods.py   names of what is compared
    paint.py     which slices are painted
    scoring.py   paint and scores of one scan
    experts.py   what the parts of the first result reach alone
    records.py   what finished jobs have measured, as rows
    pairs.py     two methods on the same cases
    tables.py    summary.csv and summary.md
    figures.py   charts
    worst.py     pictures of the cases that went worst

Importing the first six imports nothing heavy: a child process starts out with its parent's peak
of memory.
"""
