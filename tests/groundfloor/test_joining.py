"""joining: seeds of several machines in one run, and what does not belong together."""

import pytest

from groundfloor import joining
from groundfloor.errors import UserError
from groundfloor.joining import join
from groundfloor.runs import Run, content_hash, copy_file, read_json, write_json

SETTINGS = {"steps": 3, "seeds": [0]}
SAME = {"dense-*.bin": content_hash}


def made(folder, seeds, day, dense=b"net", images="aa", **settings):
    """A run with a part of two files for each seed, of a machine of its own."""
    seeded = {**SETTINGS, "seeds": seeds, **settings}
    run = Run(folder, seeded, data_fingerprint=images, defaults={"depth": 2})
    machine = {"commit": folder.name, "machine": f"m{day}", "finished": f"2026-11-{day}T00:00:00Z"}
    run.environment = run.environment | machine
    write_json(run.path("environment.json"), run.environment)
    run.path("dense-1.bin").write_bytes(dense)
    for seed in seeds:
        run.path("cells").mkdir(exist_ok=True)
        run.path("cells", f"a-s{seed}.pt").write_bytes(bytes([seed]))
        write_json(run.path("cells", f"a-s{seed}.json"), {"seed": seed, "by": folder.name})
    run.path("cells", "a-s7.pt").write_bytes(b"not finished")
    run.path("cells", "a-s7").mkdir()
    return run


def test_parts_come_with_their_files_and_with_who_made_them(tmp_path):
    made(tmp_path / "a", [0, 1], 12)
    made(tmp_path / "b", [1, 2], 11)
    both, whole = (
        Run(tmp_path / name, {**SETTINGS, "seeds": [0, 1, 2], "depth": 2}, data_fingerprint="aa")
        for name in ("both", "whole")
    )
    for run in (both, whole):
        run.known = {"depth": 2}
    parts = ["cells/[!.]*.json"]
    for _ in range(2):  # the second time nothing is missing
        join(both, [tmp_path / "a", tmp_path / "b"], parts, SAME)
    join(whole, [tmp_path / "both"], parts, SAME)
    for run in (both, whole):
        files = {str(path.relative_to(run.folder)) for path in run.path("cells").iterdir()}
        assert files == {f"cells/a-s{seed}.{kind}" for seed in (0, 1, 2) for kind in ("pt", "json")}
        assert read_json(run.path("cells", "a-s1.json"))["by"] == "a"  # the first that has it
        assert run.path("dense-1.bin").read_bytes() == b"net"
        run.write_summary(table=[1])
        summary = run.summary()
        assert summary["commit"] == "b"  # the oldest
        own, *others = summary["joined"]
        assert own == run.environment
        assert [(one["machine"], one["parts"]) for one in others] == [
            ("m12", ["dense-1", "cells/a-s0", "cells/a-s1"]),
            ("m11", ["cells/a-s2"]),
        ]
        assert summary["table"] == [1] and "parts" not in summary


@pytest.mark.parametrize("last", range(5))
def test_a_killed_join_goes_on_and_says_the_same(tmp_path, monkeypatch, last):
    """Killed at its last-th copy; a part that is there is one whose maker is said."""
    made(tmp_path / "a", [0, 1], 12)
    runs = [
        Run(tmp_path / name, {**SETTINGS, "seeds": [0, 1]}, data_fingerprint="aa")
        for name in ("killed", "whole")
    ]
    for run in runs:
        run.known = {"depth": 2}
    left = [last]

    def copy(source, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        copy_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(joining, "copy_file", copy)
        with pytest.raises(KeyboardInterrupt):
            join(runs[0], [tmp_path / "a"], ["cells/[!.]*.json"], SAME)
    said = read_json(runs[0].joined) if runs[0].joined.exists() else []
    said = {part for one in said for part in one["parts"]}
    assert {f"cells/{path.stem}" for path in runs[0].folder.glob("cells/*.json")} <= said
    for run in runs:
        join(run, [tmp_path / "a"], ["cells/[!.]*.json"], SAME)
    assert read_json(runs[0].joined) == read_json(runs[1].joined)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"steps": 4}, "it has other settings (steps 4 -> 3)"),
        ({"images": "bb"}, "it has other settings (data_fingerprint bb -> aa)"),
        ({"depth": 1}, "it has other settings (depth 1 -> 2)"),
        ({"dense": b"another"}, "its dense-1.bin is another"),
        (None, "config.json does not exist"),
    ],
)
def test_what_differs_is_refused_and_nothing_is_taken(tmp_path, other, said):
    if other is not None:
        made(tmp_path / "a", [1], 12, **other)
    run = made(tmp_path / "run", [0], 12)
    run.known = {"depth": 2}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refusal:
        join(run, [tmp_path / "a"], ["cells/*.json"], SAME)
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before
