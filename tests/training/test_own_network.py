"""A network of the user's, of torch's own layers and named by an import path, is trained like the library's."""

import copy
import multiprocessing
import re
import signal

import pytest
import torch
from tests.fixtures.plain_network import Network
from tests.fixtures.quick_training import QUICK, draw_examples, task, train_and_die, train_in

from sdss_photoz.config import check
from sdss_photoz.errors import UserError
from sdss_photoz.inputs.augmentation import Augmentation
from sdss_photoz.inputs.inputs import Inputs
from sdss_photoz.networks import build, names
from sdss_photoz.networks.inception import Network as Inception
from sdss_photoz.networks.parts.layers import initialise
from sdss_photoz.training import fit, jobs
from sdss_photoz.training.fast.aligned import AlignedNetwork, NotAligned
from sdss_photoz.training.model import Trained, architecture, describe_model, load_models
from sdss_photoz.training.rehearsal import rehearse
from sdss_photoz.training.step import trained_form

PATH = "tests.fixtures.plain_network:Network"
OWN = QUICK.model_copy(update={"network": PATH, "epochs": 4})
FIRST = Trained("images", 0, 0)
BODY = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, inputs, outputs, width=8):
        super().__init__()
        self.inner = nn.Linear(inputs.shape[2] + len(inputs.numbers), width)
        self.head = nn.Linear(width, outputs)

    def forward(self, images, numbers):
        x = torch.cat([images.mean((1, 2)), numbers], dim=1)
        return self.head(torch.relu(self.inner(x)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a module into the working directory and returns settings with its network."""
    monkeypatch.chdir(tmp_path)

    def write(text=BODY, name=f"network_{tmp_path.name}", **settings):
        (tmp_path / f"{name}.py").write_text(text)
        training = {"network": f"{name}:Network", "epochs": 2, "batch": 16, "device": "cpu"} | settings
        return check({"training": training}).training

    return write


def _train(run, folder, settings):
    folder.mkdir(exist_ok=True)
    jobs.train(*run, *task(settings), "images", 0, 0, folder / "member-0.safetensors", folder / "history.csv")
    return folder / "member-0.safetensors"


# Torch's own layers


def test_weights_of_torchs_layers_follow_from_the_seed_alone_and_the_generator_stays_as_it_was():
    state = torch.get_rng_state()
    first, again, other = (build(PATH, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    for name in ("body.1.weight", "inner.weight", "inner.bias"):
        assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("scheme", ["he", "paper"])
@pytest.mark.parametrize("name", names())
def test_weights_of_the_librarys_layers_are_those_of_their_own_generator(name, scheme):
    torch.manual_seed(17)
    network = build(name, initialisation=scheme, seed=3)
    plain = initialise(type(network)(Inputs(), 180), scheme, 3)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), plain.parameters(), strict=True))


def test_the_head_starts_at_zero_and_other_layers_of_torch_as_torch_draws_them():
    torch.manual_seed(5)
    drawn = Network(Inputs(), 180, 8, 0.2).state_dict()
    for name, value in build(PATH, seed=5).state_dict().items():
        assert torch.equal(value, torch.zeros_like(value) if name.startswith("head") else drawn[name]), name


def test_a_network_of_plain_layers_killed_and_resumed_ends_with_the_same_bytes(tmp_path):
    settings = OWN.model_copy(update={"checkpoint_minutes": 1e-9, "averaging": "exponential", "epochs": 2})
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["pytest", "sdss_photoz.training.fit"])
    job = processes.Process(target=train_and_die, args=(killed, settings, 8, 1))
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    assert not (killed / "member-0.safetensors").exists()
    train_in(killed, settings)
    train_in(undisturbed, settings)
    for name in ("member-0.safetensors", "history.csv"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes()
    network = load_models({FIRST: killed / "member-0.safetensors"}, architecture(*task(settings)))[FIRST].network
    statistics = network.body[2]
    assert statistics.num_batches_tracked.dtype == torch.int64
    assert 6 <= statistics.num_batches_tracked <= 12
    assert not torch.equal(statistics.running_mean, torch.zeros(8))


def test_a_training_whose_images_are_drawn_anew_at_each_visit_killed_and_resumed_ends_with_the_same_bytes(tmp_path):
    settings = OWN.model_copy(update={"checkpoint_minutes": 1e-9, "epochs": 2})
    images = {"channels": "pairs"}
    moves = {"augmentation": Augmentation(rotation=True, shift=2.0, zoom=1.2, noise=0.5)}
    killed, undisturbed, still = (tmp_path / name for name in ("killed", "undisturbed", "still"))
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["pytest", "sdss_photoz.training.fit"])
    job = processes.Process(target=train_and_die, args=(killed, settings, 8, 1), kwargs=images | moves)
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    train_in(killed, settings, **images, **moves)
    train_in(undisturbed, settings, **images, **moves)
    train_in(still, settings, **images)
    files = [(folder / "member-0.safetensors").read_bytes() for folder in (killed, undisturbed, still)]
    assert files[0] == files[1] != files[2]


def test_each_part_of_its_state_is_in_the_checkpoint(tmp_path):
    """With a part left out, or dropout of a generator, the resumed training would end elsewhere."""
    run = fit._Run(draw_examples(32, 1), draw_examples(10, 2), OWN, 0, 0, tmp_path / "c", "test")
    saved = {name.removeprefix("weights/") for name in run.trainer.tensors() if name.startswith("weights/")}
    assert saved == set(Network(Inputs(), 180, 8, 0.2).state_dict())


def test_a_frozen_weight_and_a_frozen_normalisation_stay_as_they_are(own, small_run, tmp_path, monkeypatch):
    kept = (
        "self.norm = nn.BatchNorm1d(width).eval()\n        self.inner.weight.requires_grad = False\n        self.head ="
    )
    text = BODY.replace("self.head =", kept).replace("self.inner(x)", "self.norm(self.inner(x))")
    settings, drawn = own(text), []
    monkeypatch.setattr(fit, "build", lambda *given: drawn.append(build(*given)) or copy.deepcopy(drawn[0]))
    path = _train(small_run, tmp_path / "run", settings)
    network = load_models({FIRST: path}, architecture(*task(settings)))[FIRST].network
    assert network.norm.num_batches_tracked == 0
    assert torch.equal(network.inner.weight, drawn[0].inner.weight)
    assert not torch.equal(network.inner.bias, drawn[0].inner.bias)


# Its import path


def test_an_edited_network_neither_resumes_its_checkpoints_nor_predicts_with_its_model(own, small_run, tmp_path):
    settings = own(options={"width": 5})
    path = _train(small_run, tmp_path / "run", settings)
    described = describe_model(path)
    assert described["options"] == {"width": 5}
    assert load_models({FIRST: path}, architecture(*task(settings)))[FIRST].network.inner.out_features == 5
    parts = draw_examples(32, 1), draw_examples(10, 2)
    digest = fit._Run(*parts, settings, 0, 0, tmp_path / "c", "test").checkpoints.digest
    edited = own(BODY.replace("relu", "tanh"), options={"width": 5})
    assert fit._Run(*parts, edited, 0, 0, tmp_path / "c", "test").checkpoints.digest != digest
    with pytest.raises(UserError, match=r"source \w{12}, but .* is expected"):
        load_models({FIRST: path}, architecture(*task(edited)))
    with pytest.raises(UserError, match="was trained by another source of"):
        load_models({FIRST: path}, {key: described[key] for key in architecture(*task(settings))})
    module = build(edited.network, options=edited.options)
    images = torch.zeros(1, 64, 64, 5)
    with torch.no_grad():
        module.head.weight.fill_(1.0)
        module.inner.bias.fill_(-1.0)
        assert (module(images, torch.zeros(1, 1)) < 0).all(), "the class was not imported anew"


def test_a_network_without_its_module_is_refused_by_the_prediction(own, small_run, tmp_path):
    settings = own()
    path = _train(small_run, tmp_path / "run", settings)
    described = describe_model(path)
    (tmp_path / f"{settings.network.partition(':')[0]}.py").unlink()
    with pytest.raises(UserError, match="give its folder by PYTHONPATH, or work in it"):
        load_models({FIRST: path}, {key: described[key] for key in ("network", "bins", "stretch", "source")})


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("resnet", "'resnet', but must be inception, inception_small or an import path like package.module:Network"),
        ("nowhere:Network", "there is no module nowhere in Python's path or in "),
        ("tests.nowhere:Network", "there is no module tests.nowhere in"),
        ("tests.fixtures.plain_network:Net", "a class, and in .*plain_network.py there is no Net"),
        ("tests.fixtures.quick_training:train_in", "train_in is a function"),
        ("no-name:Network", "an import path like package.module:Network"),
        ("sys:Network", "there is no module sys"),
    ],
)
def test_an_import_path_that_does_not_resolve_is_refused_by_the_configuration(network, said):
    with pytest.raises(UserError, match=f"training.network is .*{said}"):
        check({"training": {"network": network}})
    with pytest.raises(UserError, match=f"trials.images.training.network is .*{said}"):
        check({"trials": {"images": {"training": {"network": network}}}})


def test_a_module_that_is_not_python_is_refused_with_its_line(own):
    with pytest.raises(UserError, match=r"which .*, line 2 is not \("):
        own("import torch\nclass Network(:\n")


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"options": {"width": 3}}, r"training.options is \{'width': 3\}, but inception_small takes none"),
        ({"network": PATH, "dropout": 0.2}, "training.dropout is 0.2, but it concerns only inception, inception_small"),
        ({"network": PATH, "options": {"width": float("nan")}}, "must be of texts, finite numbers"),
    ],
)
def test_options_of_another_network_are_refused_by_the_configuration(training, said):
    with pytest.raises(UserError, match=said):
        check({"training": training})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": "wide"}, r"training.options.width is 'wide', but .* takes another: Input should be a valid integer"),
        ({"widht": 3}, r"training.options.widht is no option of .*, which takes width, dropout"),
    ],
)
def test_options_are_checked_by_the_networks_own_model(options, said):
    with pytest.raises(UserError, match=said):
        rehearse(*task(OWN.model_copy(update={"options": options})))


# What is wrong with it is said before cubes are read

BAD = {
    "another option": (BODY, {"depth": 3}, r"takes Network\(inputs, outputs, width=8\) \(got an unexpected keyword"),
    "no module of torch": ("class Network:\n    pass\n", {}, "a class derived from torch.nn.Module: it is none"),
    "a module that fails": ("import nothing_of_that_name\n" + BODY, {}, "ModuleNotFoundError: No module named"),
    "a class that fails": (BODY.replace("width)", "widht)"), {}, r"cannot be built .*NameError: name 'widht'"),
    "no head": (BODY.replace("self.head", "self.last"), {}, "has no attribute `head`, its last layer"),
    "another shape": (BODY.replace("outputs)", "7)"), {}, r"returns \(2, 7\) for images .*must return \(2, 180\)"),
    "fails": (BODY.replace("(1, 2)", "(1, 7)"), {}, "cannot be called in training .*Dimension out of range"),
    "not finite": (BODY.replace("torch.relu", "torch.log"), {}, "returns numbers that are not finite"),
    "probabilities": (BODY.replace("(x)))", "(x))).softmax(1)"), {}, "returns probabilities, but must return logits"),
    "unused": (BODY.replace("self.inner(x)", "x[:, :6]").replace("8):", "6):"), {}, "inner.weight that takes no part"),
    "random": (
        BODY.replace("torch.relu(", "nn.functional.dropout(", 1), {}, "draws from torch's random generator",
    ),
    "tied": (BODY.replace("self.head =", "self.first = self.inner\n        self.head ="), {}, "one tensor under two"),
    "nothing trained": (BODY + "\n    def parameters(self, recurse=True): return iter(())\n    named_parameters = "
                        "lambda self, *_, **__: iter(())\n", {}, "has no parameters that are trained"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "said"), BAD.values(), ids=BAD)
def test_a_bad_network_is_refused_in_a_sentence_before_cubes_are_read(own, tmp_path, text, options, said):
    settings = own(text, options=options)
    with pytest.raises(UserError, match=said) as refused:
        jobs.train(None, None, tmp_path / "no store", *task(settings), "images", 0, 0, tmp_path / "m", tmp_path / "h")
    assert re.fullmatch(r"[^\n]*[.:][^\n]*\.", str(refused.value))


# Fast forms


def test_a_wide_network_with_a_layer_that_the_aligned_form_does_not_know_is_trained_as_it_is(own, caplog):
    caplog.set_level("INFO")
    text = BODY.replace("(nn.Module):", "(nn.Module):\n    wide = True", 1)
    network = build(own(text).network)
    assert trained_form(network, torch.float32) is network
    assert "trained in its plain form, which is slower, for inner, its first layer, is a Linear" in caplog.text


def test_a_wide_network_whose_layers_do_not_follow_one_another_is_refused(own):
    text = """
from torch import nn
from torch.nn import functional as F
from sdss_photoz.networks.parts.layers import Convolution, Dense, channels_first
class Network(nn.Module):
    wide = True
    def __init__(self, inputs, outputs):
        super().__init__()
        self.one = Convolution(5, 6, 3)
        self.other = Convolution(6, 6, 3)
        self.head = Dense(6, outputs)
    def forward(self, images, numbers):
        x = F.avg_pool2d(self.one(channels_first(images)), 8)
        x = self.other(x)
        return self.head((x + numbers[:, :, None, None]).mean((2, 3)))
"""
    rehearse(*task(own(text)))  # three layers in a row
    with pytest.raises(UserError, match="its aligned form computes something else: delete `wide`"):
        rehearse(*task(own(text.replace("self.other(x)", "self.other(x) + x.flip(1)"))))


def test_an_unknown_layer_is_not_taken_for_a_dense_one():
    network = Inception(Inputs(), 180)
    network.dense2 = torch.nn.Linear(1096, 180)
    with pytest.raises(NotAligned, match="dense2 is a Linear"):
        AlignedNetwork(network)


def test_a_stride_and_a_frozen_weight_are_no_part_of_the_aligned_form(narrow_network):
    narrow_network.dense1.bias.requires_grad_(False)
    with pytest.raises(NotAligned, match=r"dense1.bias is not trained"):
        AlignedNetwork(narrow_network)
    narrow_network.conv0.stride = 2
    with pytest.raises(NotAligned, match="conv0 is a Convolution of stride 2"):
        AlignedNetwork(narrow_network)
