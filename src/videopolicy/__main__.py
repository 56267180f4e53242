"""`python -m videopolicy` is `videopolicy`."""

from videopolicy.cli.main import main

if __name__ == "__main__":
    main()
