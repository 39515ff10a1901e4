"""What `mvmp demo` shows: a configuration (`demo.toml`), its NFs (`nfs`), one module for each numbered line.

`show` prints; `real_traffic`, `read_only`, `crash`, `speed`, `books` each return an `Outcome`. The NFs run in
processes of their own, as nobody where root starts the demonstration (`nursery`, `processes`).
"""
