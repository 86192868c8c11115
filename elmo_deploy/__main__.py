"""`python -m elmo_deploy`: the command line."""

from elmo_deploy.cli import main

main()
