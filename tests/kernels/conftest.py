"""Property tests of arithmetic fail on large examples as well as small: no time is spent on making them smaller."""

from hypothesis import Phase, settings

settings.register_profile("kernels", phases=(Phase.explicit, Phase.reuse, Phase.generate), deadline=None)
settings.load_profile("kernels")
