"""`python -m crosstune` is the command `crosstune`."""

from crosstune.cli.main import main

main()
