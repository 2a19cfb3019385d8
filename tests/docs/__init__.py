"""The documentation: its code blocks are run, its reference is generated, its site is built."""
