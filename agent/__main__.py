"""`python -m agent` is the command `roadwitness`."""

from agent.cli import main

main()
