"""Parts of bench_corrections.py."""
