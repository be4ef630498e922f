"""What the tests of the pool run in workers."""

import os
import signal
import sys
import time


def square(number):
    return number * number


def power(base, exponent):
    return base**exponent


def keywords(*args, **kwargs):
    return args, kwargs


def put(shared, number):
    shared[number] = number * number


def identity(value):
    return value


class OwnError(Exception):
    """An exception with arguments of its own, and state."""

    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


def fail_at_three(number):
    if number == 3:
        raise OwnError(number, "three")
    return number


def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def pid(_=None):
    return os.getpid()


def not_picklable(_):
    return sys._getframe()


SETTING = None


def set_up(value):
    global SETTING
    SETTING = value


def setting(_=None):
    return SETTING


def fail_to_set_up():
    raise ValueError("no luck")


def spawn():
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.map_async(abs, [-1, -2]).get(30)
