"""Speed of the device, of layers, of forms of a training step, of residences of the cubes and of inference."""

import statistics
import tempfile
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from training_forms import PLAIN, Form, Settings, Steps, forms, median_seconds, seconds, sequence, wide_network
from training_galaxies import make_examples

from sdss_photoz.device import compute_dtype, keep_freed_memory, numerics
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, names
from sdss_photoz.networks.parts.layers import Convolution, Dense
from sdss_photoz.surveys import CUBE, SDSS
from sdss_photoz.training.data.examples import Catalogue
from sdss_photoz.training.data.residence import Pinned, Resident, Streamed
from sdss_photoz.training.fast.cuda_graph import CapturedStep
from sdss_photoz.training.step import trained_form

PAPER = {"schedule": "step", "learning_rate": 1e-4}  # the paper's recipe
CHUNK, CHUNKS_OF_A_SHARD = 128, 9  # galaxies of a chunk of the file that is streamed; as the stores of large runs


def ceilings(device: torch.device, quick: bool) -> list[dict]:
    """Bytes a second of a copy, read and written, and operations a second of a matrix product."""
    numbers = torch.randn((1 if quick else 64 if device.type == "cpu" else 1024) * 2**20 // 4, device=device)
    target = torch.empty_like(numbers)
    copied = median_seconds(lambda: target.copy_(numbers), device, quick)
    rows = [{"ceiling": "copy", "unit": "GB/s", "measured": round(2 * 4 * len(numbers) / copied / 1e9, 1)}]
    for dtype in (torch.float32, torch.bfloat16):
        if dtype == torch.float32 or compute_dtype(device) == dtype:
            side = 8192 if device.type == "cuda" else 1024  # random numbers: zeros would draw less power
            one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            spent = median_seconds(lambda one=one, other=other: one @ other, device, quick)
            name = str(dtype).removeprefix("torch.")
            rows.append(
                {"ceiling": f"matrix product, {name}", "unit": "TFLOP/s", "measured": round(2e-12 * side**3 / spent, 4)}
            )
    return rows


def layers(device: torch.device, quick: bool, batch: int, measured: list[dict]) -> list[dict]:
    """Milliseconds, forward and backward, of each layer of the paper's network, plain and aligned, and its floor.

    The floor is the larger of two times: the layer's operations at the ceiling of the matrix product; and its bytes at
    that of the copy, each tensor between two convolutions read twice (for the result and for the weights' gradient) and
    written once, its gradient likewise, each weight read twice and its gradient written once. A convolution through the
    Fourier transform takes fewer operations than those, and may lie below.
    """
    dtype = compute_dtype(device)
    ceiling = {row["ceiling"]: row["measured"] for row in measured}
    operations = 1e12 * ceiling[f"matrix product, {str(dtype).removeprefix('torch.')}"]
    plain = wide_network(quick).to(device, memory_format=torch.channels_last)
    aligned = trained_form(plain, dtype).network
    cubes = torch.randn(2 if quick else batch, CUBE.size, CUBE.size, len(SDSS.band_names), device=device)
    inputs = cubes.to(dtype), torch.rand(len(cubes), 1, device=device)
    found = {form: _inputs(network.to(dtype), inputs) for form, network in (("plain", plain), ("aligned", aligned))}
    rows = []
    for name, layer in plain.named_children():
        row = {"layer": name}
        given = [value.requires_grad_(name != "conv0") for value in found["plain"][name]]
        flop, moved = _work(layer, given)
        for form, network in (("plain", plain), ("aligned", aligned)):
            one = getattr(network, name)
            values = [value.detach().requires_grad_(name != "conv0") for value in found[form][name]]
            row[f"{form}_ms"] = round(1e3 * median_seconds(lambda o=one, v=values: _both_ways(o, v), device, quick), 3)
        floor = {"operations": flop / operations, "bytes": moved / (1e9 * ceiling["copy"])}
        row["floor_ms"] = round(1e3 * max(floor.values()), 3)
        row["floor_of"] = max(floor, key=floor.get)
        row["aligned_over_floor"] = round(row["aligned_ms"] / max(row["floor_ms"], 1e-3), 2)
        rows.append(row)
    total = {key: round(sum(row[key] for row in rows), 3) for key in ("plain_ms", "aligned_ms", "floor_ms")}
    over = round(total["aligned_ms"] / max(total["floor_ms"], 1e-3), 2)
    return [*rows, {"layer": "all", **total, "floor_of": "", "aligned_over_floor": over}]


@torch.no_grad()
def _inputs(network: nn.Module, inputs) -> dict[str, tuple]:
    """What each child of a network is given."""
    found, hooks = {}, []
    for name, child in network.named_children():
        hooks.append(child.register_forward_pre_hook(lambda _, given, name=name: found.__setitem__(name, given)))
    network(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def _both_ways(layer: nn.Module, inputs: list) -> None:
    output = layer(*inputs)
    wanted = [value for value in (*inputs, *layer.parameters()) if value.requires_grad]
    torch.autograd.grad(output, wanted, torch.ones_like(output))


def _work(layer: nn.Module, inputs: list) -> tuple[int, int]:
    """Operations and bytes of a layer, forward and backward."""
    tensors, hooks = {}, []

    def note(_, given, output):
        tensors.update({value.data_ptr(): value.nbytes for value in (given[0], output)})

    for part in layer.modules():
        if isinstance(part, Convolution | Dense):
            hooks.append(part.register_forward_hook(note))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(*inputs)
    for hook in hooks:
        hook.remove()
    weights = sum(parameter.nbytes for parameter in layer.parameters())
    products = 3 if inputs[0].requires_grad else 2  # forward, gradient of the weights, gradient of the input
    return products * counter.get_total_flops(), 6 * sum(tensors.values()) + 3 * weights


def ladder(device: torch.device, quick: bool, batch: int) -> list[dict]:
    """Time of a step of the paper's network, from index to new weights, in each form; plain float32 comes first.

    The forms alternate batch by batch, so that other load on the machine affects all equally.
    """
    settings = Settings(**PAPER, batch=2 if quick else batch)
    examples = make_examples(4 * settings.batch, 1, device, settings)
    network = wide_network(quick)
    ladder = forms(device, compute_dtype(device) == torch.bfloat16 or quick)
    steps = {form: Steps(network, examples, settings, 1000, form) for form in ladder}
    inputs = list(examples.batches(sequence(examples, settings), 0, 3))
    on_gpu, measured = device.type == "cuda", {form: [] for form in ladder}
    for turn in range(1 if quick else 4):  # compilation and capture happen in the first
        for form, step in steps.items():
            turns = cycle(inputs[turn % 3 :] + inputs[: turn % 3])
            times = 1 if quick or not on_gpu else 20
            if not on_gpu:
                keep_freed_memory(form.kept)
                step(*inputs[0])  # into memory as this form leaves it
            measured[form].append(seconds(lambda step=step, turns=turns: step(*next(turns)), device, times))
    median = {form: statistics.median(times[1:] or times) for form, times in measured.items()}
    return [
        {
            "form": form.name,
            "batch": settings.batch,
            "ms_a_step": round(1e3 * value, 3),
            "galaxies_a_second": round(settings.batch / value, 1),
            "times_as_fast": round(median[PLAIN] / value, 2),
        }
        for form, value in median.items()
    ]


def residence(device: torch.device, quick: bool, batch: int) -> list[dict]:
    """Training galaxies a second from cubes on the device, in pinned memory and streamed from disk.

    On a GPU with the paper's network in its fastest form; on a CPU with the small one.
    """
    on_gpu = device.type == "cuda"
    settings = Settings(**PAPER, batch=4 if quick else batch)
    network = wide_network(quick) if on_gpu else build("inception_small")
    form = forms(device, compute_dtype(device) == torch.bfloat16)[-1] if on_gpu else Form("channels-last")
    steps = 4 if quick else 400 if on_gpu else 60
    count = max(settings.batch * steps // 2, 4 * CHUNK)
    source = make_examples(count, 1, device, Settings(stretch="none"))
    half = source.cubes.cubes.half().cpu()
    rows, made = np.arange(count), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cubes"
        path.write_bytes(half.numpy().data)
        resident = Resident(half.to(device)) if on_gpu else Resident(half.float())
        made["device"] = resident
        made["pinned"] = Pinned(half, rows, device)
        made["streamed"] = Streamed(path, 0, rows, CHUNK, CHUNK * CHUNKS_OF_A_SHARD, device)
        rates = {}
        for where, cubes in made.items():
            numbers = source.numbers.cpu().numpy()
            catalogue = Catalogue(rows, source.values, numbers, Inputs(), source.head)
            examples = catalogue.examples(cubes, False, "", device)
            step = Steps(network, examples, settings, steps, form)
            inputs, warm = examples.batches(sequence(examples, settings), 0, steps), 1 if quick else steps // 10
            for _ in range(warm):
                step(*next(inputs))
            spent = seconds(lambda i=inputs, s=step: [s(*values) for values in i], device)
            rates[where] = (steps - warm) * settings.batch / spent
    return [
        {
            "residence": where,
            "network": "inception" if on_gpu else "inception_small",
            "batch": settings.batch,
            "galaxies_a_second": round(rate, 1),
            "over_device": round(rate / rates["device"], 3),
        }
        for where, rate in rates.items()
    ]


def inference(device: torch.device, quick: bool) -> list[dict]:
    """Galaxies a second of prediction from cubes on the device, stretch included, of each network.

    In its plain form and float32, as `predict` computes, and in the form that it is trained in.
    """
    rows = []
    for name in names():
        settings = Settings()
        batch = 2 if quick else 1024 if device.type == "cuda" else 16
        examples = make_examples(batch, 1, device, settings)
        network = wide_network(quick) if name == "inception" else build(name)
        index = torch.stack([torch.arange(batch), torch.zeros(batch, dtype=torch.int64)]).to(device)
        trained = Form("trained", compute_dtype(device))
        if getattr(network, "wide", False):
            trained = forms(device, compute_dtype(device) == torch.bfloat16)[-1]._replace(captured=False)
        plain, trained = Form("plain"), trained._replace(name="as trained")
        for form in (plain, trained) if trained[1:] != plain[1:] else (plain,):
            step = Steps(network, examples, settings, 1, form)
            outputs = step.compiler(step.trainer.outputs)

            def predict(step=step, outputs=outputs, index=index):
                images, numbers, _ = step.read(index)
                outputs(images, numbers).softmax(dim=1)

            once = CapturedStep(predict, None, step.compiler, form.name)
            with torch.no_grad(), numerics(device, form.dtype):
                spent = median_seconds(lambda once=once: once(device), device, quick)
            row = {"network": name, "form": form.name, "dtype": str(form.dtype).removeprefix("torch.")}
            rows.append({**row, "batch": batch, "galaxies_a_second": round(batch / spent, 1)})
    return rows
