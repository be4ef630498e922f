"""No MPI."""


class _World:
    def Get_size(self):
        return 2


COMM_WORLD = _World()


def get_vendor():
    return "none", (0, 0, 0)
