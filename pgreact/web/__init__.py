"""Pages for operators: an ASGI application, and the command ``pgreact web`` that serves it."""
