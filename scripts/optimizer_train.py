"""Train the prompt optimizer: LoRA on a frozen T5, then calibrate its confidence."""

from _run import run_job

if __name__ == "__main__":
    run_job("optimizer.train")
