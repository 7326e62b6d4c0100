"""`python -m pipelines.cli`: the `reel` command where the package is not installed, as in a job's working directory."""

from pipelines.cli import main

main()
