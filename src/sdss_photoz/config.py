"""The configuration: one model per block, checked before anything is built.

Every key is either *what* (it enters the results, so it is passed to the rules as a parameter and a change of it reruns
the stages that use it) or *how* (places, speed, devices: a change of it reruns nothing).
"""

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from sdss_photoz.errors import UserError

SAS = "https://data.sdss.org/sas"
Degrees = Annotated[float, Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")]


def what(default, description, **bounds):
    """A key that enters results."""
    return Field(default, description=description, json_schema_extra={"kind": "what"}, **bounds)


def how(default, description, **bounds):
    """A key that changes places, speed or devices, never results."""
    return Field(default, description=description, json_schema_extra={"kind": "how"}, **bounds)


class Block(BaseModel):
    """A block of the configuration: unknown keys are refused, values are never coerced, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def params(self) -> dict[str, Any]:
        """The *what* keys that differ from their defaults, as JSON values: what a rule passes as ``params:``.

        A key left at its default is absent, so that a later version with a new key reruns nothing.
        """
        return self._params()

    def _params(self):
        defaults = type(self)()
        found = {}
        for key in self.what_keys():
            value = getattr(self, key)
            if value != getattr(defaults, key):
                found[key] = _json(value)
        return {key: value for key, value in found.items() if value != {}}

    @classmethod
    def what_keys(cls) -> list[str]:
        """Names of the keys that enter results."""
        return [key for key, field in cls.model_fields.items() if field.json_schema_extra["kind"] == "what"]


def _json(value):
    """A key's value as JSON, blocks without their *how* keys."""
    if isinstance(value, Block):
        return value.params()
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


class Archive(Block):
    """Where the catalogue and the frames come from."""

    service: Literal["embedded", "casjobs", "skyserver"] = what(
        "embedded",
        "Door for the SQL queries: the simulated sky; CasJobs, with an account; or the anonymous SkyServer.",
    )
    release: int = what(12, "Data release.", ge=12, le=18)
    region: str | None = what(None, "Box of `regions` that the queries are limited to; none: the whole sky.")
    window_flist: str | None = what(
        None, "Path of the survey's window_flist.fits, to read the fields from; none: they are queried."
    )
    casjobs: str = how("https://skyserver.sdss.org/CasJobs/RestApi", "Address of CasJobs.")
    login: str = how(
        "https://apps.sciserver.org/login-portal/keystone/v3/tokens", "Address where SciServer's tokens are given."
    )
    skyserver: str = how("https://skyserver.sdss.org", "Address of the SkyServer.")
    sas: str | None = how(
        None,
        "Root of the Science Archive Server or a mirror of it, as file:// or http(s):// URL; "
        "none: the frames of the embedded archive, or the survey's own server.",
    )
    mirror: str | None = how(
        None, "Folder where fetched frames are kept; none: archive/sas of the run. A file:// archive is read in place."
    )
    missing_fraction: float = how(
        0.0, "Largest fraction of the needed frames that the archive may lack before the run stops.", ge=0, le=1
    )
    connections: int = how(4, "Connections of one job to the archive of frames.", ge=1, le=16)
    on_head_node: bool = how(
        False, "On a cluster, download frames where Snakemake runs, not in jobs: for nodes without the internet."
    )
    queries_per_minute: float = how(30.0, "Requests a minute to the query services, all jobs together.", gt=0)
    poll_seconds: float = how(5.0, "First pause between two looks at a batch job; it grows to a minute.", gt=0)
    query_hours: float = how(24.0, "How long a batch job may take from its submission.", gt=0)
    timeout_seconds: float = how(
        90.0, "How long a silent connection is waited for: CasJobs may think for 60 s before it answers.", gt=0
    )
    patience_minutes: float = how(30.0, "How long a request that fails is tried again.", ge=0)
    consent_bytes: int = how(
        10**12, "Largest transfer of frames (bytes) that starts without the archive's help desk being told.", ge=0
    )
    help_desk_told: bool = how(False, "The archive's help desk was told of a transfer above consent_bytes.")


class Frames(Block):
    """What becomes of fetched frames."""

    keep: bool = how(True, "Keep fetched frames in the mirror; else each cubes job fetches its own and drops them.")
    scratch_gb: float = how(2.0, "Disk that one cubes job may fill with frames it does not keep (GB).", ge=0.1)


class Embedded(Block):
    """The simulated sky behind the embedded archive."""

    seed: int = what(20181, "Seed of the sky: the same seed gives the same bytes on one kind of processor.", ge=0)
    fields: int = what(20, "Fields seen once, in strips of adjacent fields.", ge=2, le=500)
    galaxies_per_field: int = what(250, "Galaxies of the Main Galaxy Sample in a field.", ge=20, le=350)
    visits: int = what(6, "Runs that see the one patch of the equatorial stripe.", ge=1, le=64)


class Region(Block):
    """A box on the sky: the one that the queries ask for, that folds are dealt by and that a plan measures."""

    ra: tuple[Degrees, Degrees] = what(
        (0.0, 360.0), "First and last right ascension (degrees, -360 to 360); a first above the last runs through 0."
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
        """Degrees of right ascension, at most 360."""
        (first, last), _ = self.box()
        return last - first

    def box(self, margin: float = 0.0) -> tuple[tuple[float, float], tuple[float, float]]:
        """First and last right ascension and declination (degrees) of the box, widened by degrees on the sky.

        Right ascension starts in [0, 360) and may end beyond 360; all of the circle is (0, 360). Six decimals, 0.004
        arcsec, which are those of the queries.
        """
        low, high = max(self.dec[0] - margin, -90.0), min(self.dec[1] + margin, 90.0)
        widened = margin / max(math.cos(math.radians(max(abs(low), abs(high)))), 1e-9)
        first, last = self.ra
        wide = ((last - first) % 360 or 360.0) + 2 * widened
        across = (0.0, 360.0) if wide >= 360 else ((first - widened) % 360, (first - widened) % 360 + wide)
        return tuple(round(bound, 6) for bound in across), (round(low, 6), round(high, 6))

    def from_zero(self) -> dict:
        """Return the box as JSON values, its right ascension from 0 to 360 degrees where it was written below 0.

        Folds of such a box were once those of another sky; a parameter that reads otherwise deals them anew.
        """
        box = self.model_dump(mode="json")
        if min(self.ra) < 0:
            first, last = self.box()[0]
            box["ra"] = [first, last if last <= 360 else last - 360]
        return box

    def contains(self, ra, dec, margin: float = 0.0):
        """Whether positions lie in the box, its edges included.

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
    """What YAML 1.1 reads as this whole number: hours or degrees, minutes, seconds."""
    whole = round(abs(seconds))
    return f"{'-' if seconds < 0 else ''}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Sample(Block):
    """Which galaxies, in which order."""

    r_max: float = what(17.8, "Faint limit in dereddened Petrosian r (mag).", gt=10, le=22)
    z_max: float = what(0.4, "Highest spectroscopic redshift.", gt=0, le=0.4)
    match_radius: float = what(2.0, "Objects nearer than this are one galaxy (arcsec).", ge=0, le=10)
    chunks: int = what(4, "Number of chunks: contiguous pieces of the sky, one Zarr shard and one job each.", ge=1)


class Cubes(Block):
    """Where the cubes come from, and how frames that overlap are stacked."""

    source: Literal["frames", "published"] = what(
        "frames", "Cubes cut from the frames, or the cubes that the authors of the paper published."
    )
    published: str | None = what(None, "Path of the published file, sdss.npz.")
    stack: Literal["median", "mean"] = what("median", "What a pixel takes from the frames that cover it.")
    overlap_rows: Literal["keep", "trim"] = what(
        "keep",
        "The 128 rows that adjacent fields of a run share: both fields count, as in SWarp, or only the first.",
    )
    memory_gb: float = how(
        4.0, "Memory of one cubes job (GB): a chunk that would pass it is cut from its frames in parts.", ge=1
    )
    precision: Literal["float32", "float16", "bits10"] = what(
        "float32", "Numbers of the store: float32, float16, or float32 rounded to 10 bits of mantissa and compressed."
    )

    @model_validator(mode="after")
    def _published_has_a_path(self):
        if self.source == "published" and self.published is None:
            raise UserError("cubes.source is 'published', but cubes.published is not set: give the path of sdss.npz.")
        return self


class Folds(Block):
    """How galaxies are dealt into folds."""

    count: int = what(3, "Number of folds.", ge=2, le=50)
    by: Literal["galaxy", "group", "sky"] = what(
        "group",
        "What shares a fold: nothing, groups of galaxies linked within group_radius, or cells of about 3 degrees.",
    )
    group_radius: float = what(25.0, "Linking length of groups (arcsec).", gt=0, le=600)
    validation_fraction: float = what(0.1, "Share of the training part that chooses the best epoch.", gt=0, lt=0.9)
    train_fraction: float | None = what(
        None, "Training part (with validation) as a share of the whole sample; none: all outside the fold.", gt=0, lt=1
    )
    repeats: int = what(1, "Independent draws of the training part for each fold.", ge=1, le=20)
    train_in: str | None = what(None, "Region that training galaxies lie in; 'not NAME': outside of it.")
    test_in: str | None = what(None, "Region that test galaxies lie in; 'not NAME': outside of it.")
    seed: int = what(0, "Seed of the hash that deals the folds.", ge=0)


AT_PREDICTION = {"symmetry_averaging"}  # keys of the training block that change predictions alone


class Training(Block):
    """The network and its training."""

    network: Literal["inception", "inception_small"] = what(
        "inception_small", "The paper's network, or its smaller sibling for small samples."
    )
    bins: int = what(180, "Redshift bins between 0 and 0.4.", ge=10, le=1000)
    pooling: Literal["average", "max"] = what("average", "What the network's pools take from their pixels.")
    activation: Literal["prelu", "relu"] | None = what(
        None, "What follows each convolution; none: PReLU in inception, ReLU in inception_small."
    )
    batch_norm: bool = what(False, "Normalise maps over the batch between each convolution and its activation.")
    dropout: float = what(0.0, "Share of the features dropped before the last two dense layers.", ge=0, lt=1)
    epochs: int = what(16, "Passes through the training galaxies.", ge=1)
    batch: int = what(32, "Galaxies in a step.", ge=1, le=8192)
    sampling: Literal["all", "balanced"] = what(
        "all", "An epoch visits each galaxy once, or as many galaxies, all redshifts alike often."
    )
    optimizer: Literal["adam", "muon"] = what("adam", "Adam; or Muon for the convolutions and Adam for the rest.")
    learning_rate: float = what(3e-3, "Highest learning rate.", gt=0, lt=1)
    schedule: Literal["one_cycle", "step", "free"] = what(
        "one_cycle",
        "Linear warm-up and decay to zero; the paper's: constant, divided by 5 half way; or schedule-free: warm-up, "
        "then constant, and the network is an average of the weights.",
    )
    warmup: float = what(0.15, "Share of the steps in which one_cycle and free warm up.", ge=0, lt=1)
    averaging: Literal["none", "exponential", "last"] = what(
        "none", "The network is that of the last step, an exponential average of the weights, or the mean of the last."
    )
    averaging_share: float = what(0.1, "Share of the steps that the average of the weights spans.", gt=0, le=1)
    label_width: float = what(
        0.0, "Spread labels over neighbouring bins by a Gaussian of this width in redshift; 0: hard bins.", ge=0, le=0.1
    )
    crps_weight: float = what(
        0.0, "Weight of the CRPS (in redshift, some 0.01) that is added to the cross-entropy (nat).", ge=0
    )
    initialisation: Literal["he", "paper"] = what("he", "He, or the paper's Xavier weights with biases of 0.1.")
    stretch: Literal["asinh", "sqrt", "gamma", "none"] = what(
        "asinh",
        "Compression of the flux: asinh(x / noise), sign(x)(sqrt(|x|+1)-1), sign(x)|x|^(1/2.2), or the paper's "
        "untouched flux.",
    )
    augment: bool = what(True, "Draw one of the eight flips and rotations for each galaxy in each epoch.")
    seed: int = what(1, "Seed of initial weights, order and symmetries, together with fold and member.", ge=0)
    symmetry_averaging: bool = what(
        False, "Predict with the mean of the probabilities over the eight flips and rotations; training is the same."
    )
    regressed_point: bool = what(
        False, "Learn on the validation galaxies which redshift each bin stands for, and score that estimate as well."
    )
    cpu_threads: int = what(1, "Threads of CPU training: another number gives other weights.", ge=1, le=256)
    precision: Literal["auto", "float32", "bfloat16"] = what(
        "auto", "Arithmetic of convolutions and dense layers; auto: bfloat16 where the processor or GPU computes in it."
    )
    outside_bins: Literal["refuse", "clip"] = what(
        "refuse", "Redshifts outside the bins: refused, or counted in the first or last bin."
    )
    device: Literal["auto", "cpu", "cuda"] = how("auto", "Where to train; auto: a free GPU where there is one.")
    residence: Literal["auto", "device", "pinned", "streamed"] = how(
        "auto",
        "Where the cubes stay: in the memory of the device; in the machine's; on disk, read in whole chunks, which "
        "changes the order of the galaxies; auto: the first of these with room.",
    )
    scratch: str | None = how(
        None, "Folder of the float16 copy of the cubes that GPU and streamed training read; none: one of the run."
    )
    deterministic: bool = how(
        False,
        "On a GPU, let the same work give the same bits, so that a training that was interrupted ends with those of "
        "one that was not; slower. A CPU's always does.",
    )
    checkpoint_minutes: float = how(
        5.0, "Minutes between checkpoints, also within an epoch; 0: a checkpoint at the end of each epoch.", ge=0
    )

    @model_validator(mode="after")
    def _averages_once(self):
        if self.schedule == "free" and self.averaging != "none":
            raise UserError(
                f"training.averaging is {self.averaging!r}, but training.schedule free averages the weights itself: "
                "set training.averaging to none."
            )
        if self.schedule == "free" and self.batch_norm:
            raise UserError(
                "training.batch_norm is true, but training.schedule free saves an average of weights, whose maps have "
                "other means than those kept: set training.schedule to one_cycle or step."
            )
        return self


class Trial(Block):
    """One experiment: its folds, its ensemble, and what differs from the training block."""

    folds: Folds = what(Folds(), "The folds of this trial.")
    tested_folds: int | None = what(
        None, "How many of the folds are trained and tested, the first ones; none: all.", ge=1, le=50
    )
    members: int = what(2, "Networks of the ensemble: they differ by seed alone.", ge=1, le=100)
    training: dict[str, Any] = what({}, "Keys of the training block that differ in this trial.")
    control: Literal["none", "target_removed", "shuffled_labels"] = what(
        "none",
        "A negative control, which should know no more than the prior: cubes without the galaxies at their centres, or "
        "training redshifts that are those of other galaxies.",
    )

    @property
    def fold_numbers(self) -> list[int]:
        """Numbers of the folds that are trained and tested: fold + folds.count x repeat."""
        tested = range(self.tested_folds or self.folds.count)
        return [fold + self.folds.count * repeat for repeat in range(self.folds.repeats) for fold in tested]

    def params(self) -> dict[str, Any]:
        """As of every block; *how* keys of the trial's training are absent too."""
        training = {key: value for key, value in self.training.items() if key in Training.what_keys()}
        return self.model_copy(update={"training": training})._params()


class Evaluation(Block):
    """Scores, their errors, and what the network is compared with."""

    bootstrap: int = what(300, "Bootstrap resamples of sky cells.", ge=20, le=100_000)
    bootstrap_nside: int = what(64, "HEALPix NSIDE of the sky cells that the bootstrap draws.", ge=1, le=4096)
    neighbours: int = what(100, "Neighbours of the local-linear regression.", ge=20)
    outlier: float = what(0.05, "Residual |dz| above which a galaxy is an outlier.", gt=0, lt=1)
    controls: bool = what(
        False,
        "Score the prior, and as a negative control a forest that knows place, depth, noise, seeing and order alone.",
    )
    seed: int = what(7, "Seed of the bootstrap.", ge=0)

    @field_validator("bootstrap_nside")
    @classmethod
    def _divides_healpix(cls, nside):
        if nside & (nside - 1):
            raise ValueError("a power of two")
        return nside


class Report(Block):
    """The page."""

    title: str = what("Photometric redshifts from images", "Title of the page.")
    examples: int = what(8, "Galaxies shown with their image and distribution.", ge=0, le=100)


class Config(Block):
    """The whole configuration of a run."""

    run: Name = what("default", "Name of the run: everything it makes lies under results/<run>.")
    archive: Archive = what(Archive(), "Where the catalogue and the frames come from.")
    embedded: Embedded = what(Embedded(), "The simulated sky behind the embedded archive.")
    frames: Frames = what(Frames(), "What becomes of fetched frames.")
    regions: dict[Name, Region] = what({}, "Named boxes on the sky, for trials that train or test in or out of one.")
    sample: Sample = what(Sample(), "Which galaxies, in which order.")
    cubes: Cubes = what(Cubes(), "Where the cubes come from, and how frames that overlap are stacked.")
    training: Training = what(Training(), "The network and its training.")
    trials: dict[Name, Trial] = what({"images": Trial()}, "The experiments, by name.", min_length=1)
    evaluation: Evaluation = what(Evaluation(), "Scores, their errors, and what the network is compared with.")
    report: Report = what(Report(), "The page.")

    @model_validator(mode="after")
    def _regions_are_named(self):
        if self.archive.region is not None and self.archive.region not in self.regions:
            raise UserError(
                f"archive.region is {self.archive.region!r}, but regions names only "
                f"{sorted(self.regions) or 'no box'}: add the box or correct the name."
            )
        return self

    @model_validator(mode="after")
    def _trials_are_possible(self):
        for name, trial in self.trials.items():
            _parse(Training, {**self.training.model_dump(), **trial.training}, f"trials.{name}.training")
            if trial.tested_folds is not None and trial.tested_folds > trial.folds.count:
                raise UserError(
                    f"trials.{name}.tested_folds is {trial.tested_folds}, but there are {trial.folds.count} folds: "
                    "lower it, or leave it out to test them all."
                )
            for key in ("train_in", "test_in"):
                region = getattr(trial.folds, key)
                if region is not None and region.removeprefix("not ") not in self.regions:
                    raise UserError(
                        f"trials.{name}.folds.{key} is {region!r}, but regions names only "
                        f"{sorted(self.regions) or 'no box'}: add the box or correct the name."
                    )
        return self

    def trial_training(self, trial: str) -> Training:
        """The training block as it holds for one trial."""
        return Training(**{**self.training.model_dump(), **self.trials[trial].training})

    @property
    def folder(self) -> Path:
        """Folder of the run's results, relative to the working directory."""
        return Path("results") / self.run

    @property
    def sas(self) -> str:
        """URL of the archive's frames: the configured one, the embedded archive's, or the survey's."""
        if self.archive.sas is None and self.archive.service != "embedded":
            return SAS
        return self.archive.sas or (self.folder / "archive" / "sas").resolve().as_uri()

    @property
    def region(self) -> Region | None:
        """The box that the queries are limited to."""
        return None if self.archive.region is None else self.regions[self.archive.region]

    @property
    def mirror(self) -> Path:
        """Folder where fetched frames are kept."""
        return Path(self.archive.mirror or self.folder / "archive" / "sas")

    @property
    def frames_come_later(self) -> bool:
        """Whether each cubes job fetches its own frames: they are not kept, and the archive is no folder."""
        return not self.frames.keep and not self.sas.startswith("file:")


def _known_keys(model, path):
    """Keys that are allowed at the place `path` (a tuple of keys) of a model; empty where any key is."""
    for key in path:
        annotation = model.model_fields[key].annotation if key in getattr(model, "model_fields", {}) else None
        arguments = getattr(annotation, "__args__", ())
        model = next((a for a in (annotation, *arguments) if isinstance(a, type) and issubclass(a, Block)), model)
    return list(getattr(model, "model_fields", {}))


def _sentence(model, error, prefix):
    """One sentence for one of pydantic's errors."""
    place = tuple(part for part in error["loc"] if part != "[key]")
    key = ".".join(str(part) for part in (*filter(None, [prefix]), *place)) or "the configuration"
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, place[:-1])
        near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}."
        return f"{key} is not a key of the configuration: {hint}"
    reason = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        reason = "a name of letters, digits and underscores"
    return f"{key} is {error['input']!r}, but must be {reason}."


def _parse(model, values, prefix=""):
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(model, error.errors()[0], prefix)) from None


def check(values: dict) -> Config:
    """Check a configuration.

    Parameters
    ----------
    values : dict
        As read from YAML.

    Raises
    ------
    UserError
        One sentence that names the key, its value and what is allowed.
    """
    if not isinstance(values, dict):
        raise UserError(f"the configuration is {type(values).__name__}, but must be a mapping of keys to values.")
    return _parse(Config, values)


def with_types(value):
    """Give the numbers and booleans inside of ``--config`` values, which Snakemake reads as text, their types."""
    if isinstance(value, dict):
        return {key: with_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_types(item) for item in value]
    return yaml.safe_load(value) if isinstance(value, str) else value


def load(path) -> Config:
    """Read and check a YAML file.

    Raises
    ------
    UserError
        Where the file is missing, is not YAML, or holds a wrong key or value.
    """
    return check(read_yaml(path) or {})


def read_yaml(path) -> Any:
    """Read a YAML file, but refuse it where YAML would lose or alter something in silence.

    Raises
    ------
    UserError
        Where the file cannot be read or is not YAML, a key stands twice in one block (YAML keeps the last), or a number
        has colons (YAML 1.1 reads 12:30:00 as 45000).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        _refuse_lost(yaml.compose(text, Loader=yaml.SafeLoader), path)
        return yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give the path of a configuration file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _refuse_lost(node, path, place="", above=()):
    """Refuse keys that stand twice in a block, and numbers with colons, at a node of a YAML file and all below it."""
    if node is None or node in above:  # an alias of what it lies in
        return
    inside = []
    if isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise UserError(
                    f"{path}: {place}{name} stands twice, in lines {lines[name]} and {line}, and the first would be "
                    "lost: join them."
                )
            lines[name] = line
            inside.append((value, f"{place}{name}."))
    elif isinstance(node, yaml.SequenceNode):
        inside = [(item, place) for item in node.value]
    elif ":" in node.value and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        number = yaml.safe_load(node.value)
        raise UserError(
            f"{path}: {place.rstrip('.')} in line {node.start_mark.line + 1} is {node.value}, which YAML reads as "
            f"{number:g}: write degrees, for right ascension -360 to 360 ({node.value} is {number / 240:.9g}), for "
            f"declination -90 to 90 ({node.value} is {number / 3600:.9g})."
        )
    for child, name in inside:
        _refuse_lost(child, path, name, (*above, node))


def json_schema() -> dict:
    """JSON schema of the configuration, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _rows(model, prefix=""):
    """Rows (key, kind, default, meaning) of a model's keys, blocks opened in place."""
    for key, field in model.model_fields.items():
        if isinstance(field.default, Block):
            yield from _rows(type(field.default), f"{prefix}{key}.")
            continue
        default = "none" if field.default is None else repr(field.default)
        if key == "trials":
            default = "one, images"
        yield f"{prefix}{key}", field.json_schema_extra["kind"], default, field.description
        if key in ("trials", "regions"):
            yield from _rows(Trial if key == "trials" else Region, f"{prefix}{key}.NAME.")


def documentation() -> str:
    """The table of all keys, as Markdown."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the models in `src/sdss_photoz/config.py`.",
        "*what* keys enter the results: a change reruns the stages that use them. *how* keys rerun nothing.",
        "",
        "| key | kind | default | meaning |",
        "|---|---|---|---|",
        *(f"| `{key}` | {kind} | `{default}` | {meaning} |" for key, kind, default, meaning in _rows(Config)),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(documentation(), end="")
