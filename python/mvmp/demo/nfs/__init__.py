"""The NFs of the demonstration. Each has `run() -> dict`; alone: `python -m mvmp.demo.nfs.NAME`."""
