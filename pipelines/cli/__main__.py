"""`python -m reelwright.pipelines.cli`: the `reel` command where it is not installed, as in a job."""

from reelwright.pipelines.cli.main import main

main()
