"""The commands of `mvmp`, one module each, and what they share (`parser`, `output`, `platform_socket`).

A command module has `configure(commands)`, which adds its parser, and `run(args)`, which returns the
exit code.
"""
