"""What the tests of mpi4py's pool import of mpi4py: the rest is about MPI, and not about pools."""
