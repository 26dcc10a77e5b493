"""``python -m jaxpg.suite``."""

from jaxpg.suite import main

if __name__ == "__main__":
    main()
