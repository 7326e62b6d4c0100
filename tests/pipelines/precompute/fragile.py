"""An actor for `test_precompute`, in a module that costs its worker no import of torch."""

import os


class Fragile:
    """Dies on "deadly", raises on "bad"."""

    def work(self, items):
        for item in items:
            if item == "deadly":
                os._exit(1)
            if item == "bad":
                raise ValueError("bad item")
        return list(items)
