"""Entry point of ``python -m lit_prompt``."""

from lit_prompt.main import main

if __name__ == "__main__":
    main()
