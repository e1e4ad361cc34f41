"""Serve the packaged expert to agents: tools of the Model Context Protocol."""

from _run import run_job

if __name__ == "__main__":
    run_job("package.mcp")
