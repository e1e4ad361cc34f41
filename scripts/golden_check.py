"""Say what is wrong with a sem's golden set; exit 1 when anything is."""

from _run import run_job

if __name__ == "__main__":
    run_job("golden.check")
