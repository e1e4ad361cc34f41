"""Copy documents into a project, for `fab forge.run`."""

from _run import run_job

if __name__ == "__main__":
    run_job("sem.add_data")
