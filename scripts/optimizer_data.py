"""Write the prompt optimizer's pairs: vague prompts and good ones, split by task family."""

from _run import run_job

if __name__ == "__main__":
    run_job("optimizer.data")
