"""The worker: a process that runs the functions of one module for a procpool server.

Started by the server as `python -m procpool.worker MODULE_OR_FILE`. It speaks the frames of
`proto/procpool/worker/v1/worker.proto`, whose comments are the contract.

Overview: the main thread runs the items, one after the other (`runner`). One more thread reads the frames of the server
(`session`), so that a Recall or a Ping is answered while an item runs; a third sends results that have waited for a
millisecond while an item runs (`session` too). A lock (`biased_lock`) protects what the three share; the main thread
has it whenever it is not in the user's function.
"""
