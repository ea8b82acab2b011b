"""A checkpoint is whole, of this training, or set aside."""

import re

import torch
from safetensors.torch import save

from sdss_photoz.training.checkpoint import Checkpoints, State


def _save_two(folder, digest="this"):
    checkpoints = Checkpoints(folder, digest)
    for step in (10, 20):
        checkpoints.save(State({"weights/a": torch.full((3,), float(step))}, step, step // 10, [{"epoch": step // 10}]))
    return checkpoints


def test_the_newest_checkpoint_comes_back_as_it_was_saved(tmp_path):
    state = _save_two(tmp_path / ".c").load()
    assert (state.step, state.epoch, state.history) == (20, 2, [{"epoch": 2}])
    assert state.tensors["weights/a"].tolist() == [20.0, 20.0, 20.0]


def test_only_the_newest_two_are_kept(tmp_path):
    checkpoints = _save_two(tmp_path / ".c")
    checkpoints.save(State({"weights/a": torch.zeros(3)}, 30, 3, []))
    assert sorted(path.name for path in (tmp_path / ".c").iterdir()) == [
        "step-000000020.safetensors",
        "step-000000030.safetensors",
    ]


def test_a_damaged_checkpoint_is_set_aside_by_name_and_the_one_before_is_used(tmp_path, capsys):
    checkpoints = _save_two(tmp_path / ".c")
    newest = tmp_path / ".c" / "step-000000020.safetensors"
    whole = newest.read_bytes()
    damages = {
        "a flipped bit in the weights": whole[:-1] + bytes([whole[-1] ^ 1]),
        "another step": whole.replace(b'step\\": 20', b'step\\": 30'),
        "another name of a tensor": whole.replace(b"weights/a", b"weights/b"),
        "no description": save({"weights/a": torch.zeros(3)}),
        "truncated": whole[:40],
        "empty": b"",
    }
    for damage, content in damages.items():
        assert content != whole, damage
        newest.write_bytes(content)
        assert checkpoints.load().step == 10, damage
        assert newest.with_name(f"{newest.name}.damaged").exists()
        stderr = capsys.readouterr().err.strip().splitlines()
        assert len(stderr) == 1
        assert newest.name in stderr[0]


def test_what_a_killed_job_left_half_written_goes(tmp_path):
    checkpoints = _save_two(tmp_path / ".c")
    left = tmp_path / ".c" / ".step-000000030.safetensors.abc.part"
    left.write_bytes(b"x")
    assert checkpoints.load().step == 20
    assert not left.exists()


def test_checkpoints_of_another_digest_are_set_aside_in_one_line(tmp_path, capsys):
    _save_two(tmp_path / ".c", "other")
    assert Checkpoints(tmp_path / ".c", "this").load() is None
    assert not (tmp_path / ".c").exists()
    assert len(list(tmp_path.glob(".c-of-other/step-*.safetensors"))) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_without_checkpoints_training_starts_at_the_beginning(tmp_path):
    assert Checkpoints(tmp_path / ".c", "this").load() is None


def test_no_part_of_the_product_reads_or_writes_pickle(root):
    calls = re.compile(r"(import|from) (pickle|joblib|dill)|torch\.(load|save)\(|read_pickle|allow_pickle=True")
    for path in (root / "src").rglob("*.py"):
        found = calls.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path}: {found[0]}: reading such a file can run whatever it says"
