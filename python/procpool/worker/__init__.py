"""The worker: a process that runs the functions of one module for a procpool server.

Started by the server as `python -m procpool.worker MODULE_OR_FILE`. What happens for every item is in the native module
(`python/native/src/worker`), over the Rust SDK, which speaks the frames of `proto/procpool/worker/v1/worker.proto`. Here
is what happens once: the command line, the import of the module (`loader`, `source`); and what is rare: the description
of an exception (`errors`).
"""
