"""The settings of a search for the minimum distortion, and the named searches."""

from __future__ import annotations

import dataclasses
from math import isfinite

from intriguing.attack.boundary_search import BoundarySearch
from intriguing.attack.smoothed_gradient import SmoothDescent
from intriguing.names import check_name
from intriguing.optimize.bisection import Bisection
from intriguing.optimize.box_lbfgs import BoxMinimization
from intriguing.pixels import PixelBox

_LARGE = 2**15  # values of an image
_EXPENSIVE = 2**24  # bytes of the tensors of a network that depend on one image
_LEAST_BUDGET = 20  # a smaller budget does not suffice for the clean image and the first linear steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistortionSearch:
    """Budgets and tolerances of a search for the minimum distortion. The named searches need no tuning.

    Attributes:
        pixel_box: The legal pixel values; every returned image lies exactly inside.
        bisection: The bisection on c in the method of the paper. Used if `boundary_search` is None.
        minimization: L-BFGS at a fixed c in the method of the paper. Used if `boundary_search` is None.
        descent: Descent between the linear steps and the search along the boundary, for networks with many kinks. If None, it
            is skipped.
        boundary_search: The search along the decision boundary for its nearest point. If None, the method is that of the paper.
        restart_evaluations: Part of `max_evaluations` that is reserved for a second search of images without success, from
            images of an accepted class that are found without gradients. If 0 or more than half of `max_evaluations`, there is
            no second search.
        quantization_levels: Number of evenly spaced values in the pixel box that a pixel may have: 256 for images that stay
            adversarial after they are saved as PNG files. If None, any value in the box is legal.
        max_evaluations: Maximum number of gradient evaluations per image; a forward pass alone counts half. Results found after
            the budget of an image is exhausted are discarded.
    """

    pixel_box: PixelBox = PixelBox()
    bisection: Bisection = Bisection()
    minimization: BoxMinimization = BoxMinimization()
    descent: SmoothDescent | None = None
    boundary_search: BoundarySearch | None = BoundarySearch()
    restart_evaluations: int = 1000
    quantization_levels: int | None = None
    max_evaluations: int = 2000

    def __post_init__(self) -> None:
        levels = self.quantization_levels
        if levels is not None and (levels < 2 or self.boundary_search is None or not isfinite(sum(self.pixel_box))):
            raise ValueError(
                f"quantization_levels must be at least 2, and requires a boundary search and a bounded pixel box; received "
                f"{levels}, {'no' if self.boundary_search is None else 'a'} boundary search and {tuple(self.pixel_box)}."
            )
        if self.descent is not None and self.boundary_search is None:
            raise ValueError(
                "descent requires a boundary search, which begins where the descent ends. Pass boundary_search, too, or "
                "descent=None."
            )
        if self.restart_evaluations < 0:
            raise ValueError(f"restart_evaluations must be at least 0; received {self.restart_evaluations}.")
        if self.max_evaluations < _LEAST_BUDGET:
            raise ValueError(f"max_evaluations must be at least {_LEAST_BUDGET}; received {self.max_evaluations}.")

    @property
    def reserved_evaluations(self) -> int:
        """Evaluations that the first search leaves for the second one if it does not succeed."""
        return self.restart_evaluations if 2 * self.restart_evaluations <= self.max_evaluations else 0


QUICK_SEARCH = DistortionSearch(
    boundary_search=BoundarySearch(num_starts=1, tolerance=2e-3), restart_evaluations=150, max_evaluations=400
)
"""One start and a coarse tolerance: distortions within one percent of the default on smooth networks, in a fifth of the
time."""

COARSE_SEARCH = DistortionSearch(
    boundary_search=BoundarySearch(
        num_starts=1, long_steps=6, num_candidates=1, num_rivals=1, num_constraints=1, scales=(-0.3, 0.3, 2.0), tolerance=0.2
    ),
    restart_evaluations=0,
    max_evaluations=50,
)
"""A few linear steps and a few steps along the boundary. Distortions are some four percent larger than those of the quick
search on smooth networks. For training, where many examples are more useful than near ones. Images without success are not
searched again."""

PHOTOGRAPH_SEARCH = DistortionSearch(
    descent=SmoothDescent(),
    boundary_search=BoundarySearch(
        num_starts=1, long_steps=1, short_steps=1, restart=False, num_rivals=2, scales=(0.0, 1.0, 3.0), tolerance=1e-3
    ),
    restart_evaluations=120,
    max_evaluations=420,
)
"""A smooth descent and two steps of a boundary search, for networks whose evaluations are expensive: some 225 evaluations,
eight seconds for a photograph on two fast cores; only images without success by then take more. `SmoothDescent(num_steps=85)`
takes half as long, and distortions are some three percent larger."""

THOROUGH_SEARCH = DistortionSearch(
    boundary_search=BoundarySearch(num_starts=96, num_agreeing=24, tolerance=1e-4, num_candidates=9), max_evaluations=20_000
)
"""Eight times the starts and ten times the budget of the default, for networks with many kinks. A result counts as converged if
24 starts lead to the same distance; the default requires two.

On small rectifier networks whose exact nearest images are known, nearly all results are within 0.1 % of the exact distance
(`python -m tests.benchmarks.exact_rectifier`). A tolerance of 1e-5 is worse: the budget is spent on runs that do not converge,
and fewer starts are tried."""

SZEGEDY_LBFGS = DistortionSearch(boundary_search=None, max_evaluations=100_000)
"""The method of the paper: L-BFGS on cross-entropy and a search for c, to convergence."""


SEARCHES = {
    "default": DistortionSearch(),
    "fast": QUICK_SEARCH,
    "thorough": THOROUGH_SEARCH,
    "large_images": PHOTOGRAPH_SEARCH,
    "training": COARSE_SEARCH,
    "szegedy_lbfgs": SZEGEDY_LBFGS,
}
"""The named searches."""


def checked_search(search: DistortionSearch | str | None) -> DistortionSearch | None:
    """Returns the search itself for a `DistortionSearch`, the named search for a name, and None for None.

    Raises:
        TypeError: If `search` is of another type.
        ValueError: If there is no search of that name.
    """
    if isinstance(search, str):
        return search_named(search)
    if search is not None and not isinstance(search, DistortionSearch):
        given = search.__name__ if isinstance(search, type) else type(search).__name__
        raise TypeError(
            f"search must be a DistortionSearch or the name of one, {', '.join(map(repr, SEARCHES))}; received {search!r}, "
            f"{'the class' if isinstance(search, type) else 'of type'} {given}."
        )
    return search


def search_named(name: str) -> DistortionSearch:
    """Returns a search by its name.

    Args:
        name: "default", "fast", "thorough", "large_images", "training" or "szegedy_lbfgs".

    Raises:
        ValueError: If there is no such search; the message suggests the nearest name.

    Example:
        >>> search_named("fast").max_evaluations
        400
    """
    check_name(name, SEARCHES, "search")
    return SEARCHES[name]


def default_search(num_values: int, bytes_per_image: int = 0) -> DistortionSearch:
    """Returns the search that is used if none is named: `DistortionSearch()`, or `PHOTOGRAPH_SEARCH` for expensive networks.

    Args:
        num_values: Number of values of an image. An image with 2**15 or more, such as 105x105 color pixels, counts as large.
        bytes_per_image: Bytes of all tensors of the network that depend on one image. From 2**24 bytes on, as for a MobileNet
            at 96 pixels, evaluations count as expensive.

    Example:
        >>> default_search(28 * 28) == DistortionSearch()
        True
        >>> default_search(224 * 224 * 3) == PHOTOGRAPH_SEARCH
        True
    """
    return PHOTOGRAPH_SEARCH if num_values >= _LARGE or bytes_per_image >= _EXPENSIVE else DistortionSearch()
