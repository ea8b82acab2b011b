"""Style of the report's figures: colours that survive colour blindness and print; same numbers, same bytes."""

import base64
import functools
from collections.abc import Callable
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK = (  # Okabe & Ito 2008
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#222222"
)  # fmt: skip
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, BLACK)
WIDTH = 7.2  # inches, of every figure, so that letters have one size on the page
STYLE = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that the bytes do not depend on the machine's fonts
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": BLACK,
    "axes.titlesize": 9,
    "legend.frameon": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "savefig.dpi": 150,
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, without the date and matplotlib's version."""
    with rc_context(STYLE):
        figure.savefig(path, format="png", metadata={"Software": None})


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorate a function that draws a figure: the report's style replaces the caller's matplotlib settings."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapped


def png_data(path: Path) -> str:
    """A PNG file as data of an img tag."""
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
