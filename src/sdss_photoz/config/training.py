"""The network and its training."""

import json
import pkgutil
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator, model_validator

from sdss_photoz import import_path
from sdss_photoz.config.block import Block, how, what
from sdss_photoz.config.groups import Group, holds
from sdss_photoz.errors import UserError

AT_PREDICTION = {"symmetry_averaging"}  # keys of the training block that change predictions alone
OF_OUR_NETWORKS = ("pooling", "activation", "batch_norm", "dropout")  # keys for the layers of the library's networks


def own_networks() -> list[str]:
    """Names of the library's networks, by their files: importing them would take torch."""
    folder = Path(__file__).parents[1] / "networks"
    return sorted(module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg)


class Training(Block):
    """The network and its training."""

    removed: ClassVar[dict[str, str]] = {
        "optimizer": "for Muon lowered no score (docs/benchmarks/training.md): delete it, Adam remains.",
        "schedule: free": "for it lowered no score (docs/benchmarks/training.md): delete it, or set one_cycle or step.",
    }

    network: str = what(
        "inception_small",
        "The paper's network `inception`, its smaller sibling `inception_small` for small samples, or the import path "
        "`package.module:Network` of your own.",
    )
    options: dict[str, Any] = what({}, "Options of your own network: keyword arguments of its class.")
    bins: int = what(180, "Redshift bins between 0 and 0.4.", ge=10, le=1000)
    pooling: Literal["average", "max"] = what("average", "Kind of the network's pooling layers.")
    activation: Literal["prelu", "relu"] | None = what(
        None, "Activation after each convolution; none: PReLU in inception, ReLU in inception_small."
    )
    batch_norm: bool = what(False, "Batch normalisation between each convolution and its activation.")
    dropout: float = what(0.0, "Fraction of the features dropped before the last two dense layers.", ge=0, lt=1)
    epochs: int = what(16, "Passes through the training galaxies.", ge=1)
    batch: int = what(32, "Galaxies in a batch.", ge=1, le=8192)
    sampling: Literal["all", "balanced"] = what(
        "all",
        "An epoch visits each galaxy once, or is class-balanced: as many galaxies, with equal frequency per redshift.",
    )
    learning_rate: float = what(3e-3, "Highest learning rate.", gt=0, lt=1)
    schedule: Literal["one_cycle", "step"] = what(
        "one_cycle", "Linear warm-up and decay to zero; or the paper's: constant, divided by 5 half way."
    )
    warmup: float = what(0.15, "Fraction of the steps in which one_cycle warms up.", ge=0, lt=1)
    weight_decay: float = what(
        0.0,
        "Decoupled weight decay: a step shrinks each parameter by the learning rate times this.",
        ge=0,
        allow_inf_nan=False,
    )
    groups: dict[str, Group] = what(
        {}, "Layers, or parameters, by name, with a learning rate and weight decay of their own, or frozen."
    )
    averaging: Literal["none", "exponential", "last"] = what(
        "none", "The network is that of the last step, an exponential average of the weights, or the mean of the last."
    )
    averaging_share: float = what(0.1, "Fraction of the steps that the average of the weights spans.", gt=0, le=1)
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
        False, "Fit a redshift to each bin on the validation galaxies, and score this point estimate as well."
    )
    cpu_threads: int = what(1, "Threads of CPU training: another number gives other weights.", ge=1, le=256)
    precision: Literal["auto", "float32", "bfloat16"] = what(
        "auto",
        "Dtype of convolutions and dense layers; auto: bfloat16 where the processor or GPU has instructions for it.",
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
        "On a GPU, use deterministic algorithms only, so that an interrupted training ends with the bytes of one that "
        "was not; slower. A CPU always does.",
    )
    checkpoint_minutes: float = how(
        5.0, "Minutes between checkpoints, also within an epoch; 0: a checkpoint at the end of each epoch.", ge=0
    )

    @field_validator("network")
    @classmethod
    def _network_is_there(cls, network: str) -> str:
        if ":" in network:
            import_path.source(network)
        elif network not in own_networks():
            raise ValueError(f"{', '.join(own_networks())} or an import path like package.module:Network")
        return network

    @field_validator("options")
    @classmethod
    def _options_can_be_recorded(cls, options: dict) -> dict:
        try:
            json.dumps(options, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("of texts, finite numbers, true, false, null, lists and mappings alone") from None
        return dict(sorted(options.items()))  # their order is no change

    @field_validator("groups")
    @classmethod
    def _groups_are_apart(cls, groups: dict[str, Group]) -> dict[str, Group]:
        changing = [name for name, group in groups.items() if group != Group()]
        for one in changing:
            for other in changing:
                if one != other and holds(one, other):
                    raise ValueError(f"of layers that are apart, and {one} holds {other}: name the smaller ones alone")
        return dict(sorted(groups.items()))

    @model_validator(mode="after")
    def _options_are_the_networks(self):
        own = ":" not in self.network
        if own and self.options:
            raise UserError(
                f"training.options is {self.options!r}, but {self.network} takes none: leave it out, or give the "
                "import path of your own network in training.network."
            )
        for key in () if own else OF_OUR_NETWORKS:
            if (value := getattr(self, key)) != type(self).model_fields[key].default:
                raise UserError(
                    f"training.{key} is {value!r}, but it concerns only {', '.join(own_networks())}: leave it out, and "
                    f"give {self.network} its options in training.options."
                )
        return self
