"""python -m bench.report: see bench/report/reporter.py."""

from bench.report.reporter import main

if __name__ == "__main__":
    main()
