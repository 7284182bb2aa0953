"""``python -m tribrain``."""

from tribrain.cli import main

if __name__ == "__main__":
    main()
