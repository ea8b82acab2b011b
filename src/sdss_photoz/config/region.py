"""Named boxes on the sky."""

import math
from typing import Annotated

from pydantic import ConfigDict, Strict, field_validator

from sdss_photoz.config.block import Block, what

Degrees = Annotated[float, Strict()]


class Region(Block):
    """A box on the sky, to limit queries, plans, and the training or test galaxies of trials."""

    ra: tuple[Degrees, Degrees] = what(
        (0.0, 360.0),
        "First and last right ascension (degrees, -360 to 360); a box whose first exceeds its last contains 0.",
    )
    dec: tuple[Degrees, Degrees] = what((-90.0, 90.0), "First and last declination (degrees, -90 to 90).")

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    @field_validator("ra", "dec")
    @classmethod
    def _on_the_sky(cls, bounds, field):
        key, (first, last) = field.field_name, bounds
        limit, degree = (360, 240) if key == "ra" else (90, 3600)  # seconds of time, or of arc, in a degree
        for value in bounds:
            if not abs(value) <= limit:
                hint = ""
                if 3600 <= abs(value) <= limit * degree and value % 1 == 0:
                    hint = f" (YAML reads {_sexagesimal(value)} as {value:g}: it is {value / degree:.9g})"
                raise ValueError(f"degrees, {-limit} to {limit}{hint}")
        if key == "dec" and not first < last:
            raise ValueError("first and last in this order: the first below the last")
        if key == "ra" and (last - first > 360 or last - first in (0, -360, -720)):
            raise ValueError("first and last of a box wider than 0 and at most 360 degrees")
        return bounds

    @property
    def width(self) -> float:
        """Extent in right ascension (degrees), at most 360."""
        (first, last), _ = self.box()
        return last - first

    def box(self, margin: float = 0.0) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return first and last right ascension and declination (degrees), widened by `margin` degrees on the sky.

        Right ascension starts in [0, 360) and may end above 360; the whole circle is (0, 360). Values are rounded to
        six decimals (0.004 arcsec), as in the queries.
        """
        low, high = max(self.dec[0] - margin, -90.0), min(self.dec[1] + margin, 90.0)
        widened = margin / max(math.cos(math.radians(max(abs(low), abs(high)))), 1e-9)
        first, last = self.ra
        wide = ((last - first) % 360 or 360.0) + 2 * widened
        across = (0.0, 360.0) if wide >= 360 else ((first - widened) % 360, (first - widened) % 360 + wide)
        return tuple(round(bound, 6) for bound in across), (round(low, 6), round(high, 6))

    def from_zero(self) -> dict:
        """Return the box as JSON values, negative right ascensions shifted to 0 to 360 degrees.

        Earlier versions assigned wrong folds for negative right ascensions; the changed parameter makes them anew.
        """
        box = self.model_dump(mode="json")
        if min(self.ra) < 0:
            first, last = self.box()[0]
            box["ra"] = [first, last if last <= 360 else last - 360]
        return box

    def contains(self, ra, dec, margin: float = 0.0):
        """Return whether positions lie in the box, including its edges.

        Parameters
        ----------
        ra, dec : ndarray or Series (position,)
            Degrees.
        margin : float
            Degrees on the sky by which the box is widened.

        Returns
        -------
        ndarray or Series of bool
        """
        (first, last), (low, high) = self.box(margin)
        ra = ra % 360
        if last - first >= 360:
            between = ra >= 0
        else:
            between = (ra >= first) & (ra <= last) if last < 360 else (ra >= first) | (ra <= round(last % 360, 6))
        return between & (dec >= low) & (dec <= high)


def _sexagesimal(seconds: float) -> str:
    """Format seconds as hours or degrees, minutes and seconds, as YAML 1.1 reads them."""
    whole = round(abs(seconds))
    return f"{'-' if seconds < 0 else ''}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
