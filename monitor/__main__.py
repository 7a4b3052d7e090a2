"""`python -m monitor` is `wildlane`."""

from monitor.cli import main

main()
