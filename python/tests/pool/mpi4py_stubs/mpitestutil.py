"""Where the tests run."""


def github():
    return False


def disable_mpi_spawn():
    return True
