"""The command line: a file and a class for each command, listed in main.py."""
