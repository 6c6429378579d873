"""``python -m ziggurat`` is the command ``ziggurat``."""

from ziggurat.command import main

main()
