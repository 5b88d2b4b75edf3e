"""What is read of Python environments: where they are, and what they hold of the stack."""

from __future__ import annotations

from pathlib import Path

from tests.unit.tree import Link, make_root

from bedplate.host.stack.environments import (
    find_environments,
    parse_torch_bounds,
    parse_torch_version,
    read_environments,
)
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.stack import (
    PythonRequirement,
    TorchBuild,
)

# Of torch 2.10.0 and of a build by Debian.
VERSION = (
    "from typing import Optional\n__version__ = '2.10.0+cu128'\ndebug = False\n"
    "cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n"
)

OLD_VERSION = "__version__ = '2.6.0'\ndebug = False\ncuda = None\ngit_version = 'x'\nhip = '6.2'\n"


def test_what_torch_was_built_for_is_read() -> None:
    assert parse_torch_version(VERSION, "/v") == TorchBuild(path="/v", version="2.10.0+cu128", cuda="12.8", hip="")
    assert parse_torch_version(OLD_VERSION, "/v") == TorchBuild(path="/v", version="2.6.0", cuda="", hip="6.2")
    assert parse_torch_version("import x\n", "/v") is None


def test_bounds_on_torch_are_read_and_those_with_a_marker_are_left_out() -> None:
    text = (
        "Name: vllm\nRequires-Dist: torch==2.10.0\nRequires-Dist: torch (>=2.1,<3)\nRequires-Dist: torchvision==0.25\n"
        'Requires-Dist: torch==2.9; extra == "x"\nRequires-Dist: torch\n'
    )
    assert parse_torch_bounds(text) == ("==2.10.0", ">=2.1,<3")


def site(path: str, *names: str) -> dict[str, str | bytes | Link]:
    return {f"{path}/{name}": "" for name in names}


def test_environments_are_found_in_the_usual_places_and_by_units(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/opt/vllm/pyvenv.cfg": "",
            "/opt/deep/down/it/venv/pyvenv.cfg": "",
            "/home/alice/project/.venv/pyvenv.cfg": "",
            "/home/alice/.cache/venv/pyvenv.cfg": "",
            "/opt/conda/conda-meta/history": "",
            "/opt/conda/envs/llm/conda-meta/history": "",
            "/usr/local/cuda/bin/pyvenv.cfg": "",
            "/elsewhere/engine/pyvenv.cfg": "",
            "/etc/systemd/system/vllm.service": (
                "[Service]\nExecStartPre=-/usr/bin/true\nExecStart=/elsewhere/engine/bin/vllm serve /m --port 8000"
            ),
        },
    )
    assert find_environments(root) == (
        "/elsewhere/engine",
        "/home/alice/project/.venv",
        "/opt/conda",
        "/opt/conda/envs/llm",
        "/opt/vllm",
    )


def test_directories_of_the_network_are_not_searched(tmp_path: Path) -> None:
    mounts = (
        "22 1 0:30 / /home rw - nfs4 server:/home rw",
        "23 1 0:31 / /opt/shared rw - fuse.sshfs x rw",
        "24 1 8:1 / /srv rw - ext4 /dev/sda1 rw",
    )
    names = ("/home/alice/venv", "/opt/shared/venv", "/opt/own", "/srv/venv")
    entries = {f"{name}/pyvenv.cfg": "" for name in names}
    root = make_root(tmp_path, {"/proc/self/mountinfo": "\n".join(mounts), **entries})
    assert find_environments(root) == ("/opt/own", "/srv/venv")


def test_an_environment_is_read_without_starting_it(tmp_path: Path) -> None:
    top = "/opt/vllm/lib/python3.13/site-packages"
    entries = site(
        top,
        *("torch-2.10.0.dist-info/RECORD", "numpy-2.3.5.dist-info/RECORD", "flash_attn-2.8.3.dist-info/RECORD"),
        *("~orch-2.9.1.dist-info/RECORD", "nvidia_cuda_runtime_cu12-12.8.90.dist-info/RECORD"),
    )
    entries |= {
        "/opt/vllm/pyvenv.cfg": "home = /usr/bin",
        "/opt/vllm/bin/python": Link("python3.13"),
        "/opt/vllm/bin/python3": Link("python"),
        "/opt/vllm/bin/python3.13": Link("/usr/bin/python3.13"),
        "/opt/vllm/bin/pip": "#!/usr/bin/python3.13",
        f"{top}/vllm-0.19.1.dist-info/METADATA": "Name: vllm\nRequires-Dist: torch==2.10.0\n\nRequires-Dist: torch==1\n",
        f"{top}/torch/version.py": VERSION,
    }
    root = make_root(tmp_path, entries)
    (environment,) = read_environments(root, ["/opt/vllm", "/opt/vllm", "/opt/absent"])
    assert [(package.name, package.version) for package in environment.packages] == [
        ("flash-attn", "2.8.3"),
        ("nvidia-cuda-runtime-cu12", "12.8.90"),
        ("torch", "2.10.0"),
        ("vllm", "0.19.1"),
    ]
    assert environment.leftovers == (f"{top}/~orch-2.9.1.dist-info",)
    assert environment.torch is not None and environment.torch.cuda == "12.8"
    assert environment.requirements == (PythonRequirement(package="vllm", bounds="==2.10.0"),)
    assert (environment.interpreter.unknown, environment.interpreter.text) == (Unknown.ABSENT, "/usr/bin/python3.13")
    assert [link.rpartition("/")[2] for link in environment.dangling] == ["python", "python3", "python3.13"]
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3.13").write_text("")
    assert read_environments(root, ["/opt/vllm"])[0].dangling == ()
    assert read_environments(root, ["/opt/vllm"])[0].interpreter.value == "/usr/bin/python3.13"


def test_directories_of_the_system_and_a_target_directory_are_read(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/usr/lib/python3/dist-packages/torch-2.6.0.dist-info/RECORD": "",
            "/usr/local/lib/python3.13/dist-packages/torch-2.10.0.dist-info/RECORD": "",
            "/srv/site/sglang-0.5.20.dist-info/RECORD": "",
        },
    )
    found = read_environments(root, ["/srv/site"])
    assert [(environment.path, environment.packages[0].version, environment.is_virtual) for environment in found] == [
        ("/srv/site", "0.5.20", False),
        ("/usr/lib/python3/dist-packages", "2.6.0", False),
        ("/usr/local/lib/python3.13/dist-packages", "2.10.0", False),
    ]


def test_an_environment_with_two_names_is_one(tmp_path: Path) -> None:
    root = make_root(
        tmp_path,
        {
            "/opt/current": Link("vllm"),
            "/opt/loop": Link("/opt"),
            "/opt/vllm/pyvenv.cfg": "",
            "/opt/vllm/lib/python3.13/site-packages/torch-2.10.0.dist-info/RECORD": "",
            "/srv/engine": Link("/mnt/large/engine"),
            "/mnt/large/engine/pyvenv.cfg": "",
        },
    )
    assert find_environments(root) == ("/opt/vllm", "/srv/engine")
    assert [found.path for found in read_environments(root, ["/opt/current", "/opt/vllm"])] == ["/opt/vllm"]


def test_environments_of_conda_in_home_directories_are_found(tmp_path: Path) -> None:
    names = ("/home/alice/miniconda3", "/home/alice/miniconda3/envs/vllm", "/home/bob/.conda/envs/sglang")
    root = make_root(tmp_path, {**{f"{name}/conda-meta/history": "" for name in names}})
    assert find_environments(root) == names


def test_an_environment_that_sees_the_packages_of_its_python_has_them(tmp_path: Path) -> None:
    dist = "/usr/local/lib/python3.13/dist-packages"
    own = "/opt/vllm/lib/python3.13/site-packages"
    entries: dict[str, str | bytes | Link] = {
        "/opt/vllm/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\n",
        "/opt/alone/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = false\n",
        "/opt/alone/lib/python3.13/site-packages/vllm-0.19.1.dist-info/RECORD": "",
        f"{own}/vllm-0.19.1.dist-info/RECORD": "",
        f"{own}/transformers-4.57.1.dist-info/RECORD": "",
        f"{dist}/torch-2.10.0.dist-info/RECORD": "",
        f"{dist}/transformers-4.40.0.dist-info/RECORD": "",
        f"{dist}/~orch-2.9.0.dist-info/RECORD": "",
        f"{dist}/torch/version.py": VERSION,
        "/srv/conda/lib/python3.12/site-packages/torch-2.9.0.dist-info/RECORD": "",
        "/srv/engine/pyvenv.cfg": "home = /srv/conda/bin\ninclude-system-site-packages = True\n",
        "/srv/engine/lib/python3.12/site-packages/vllm-0.18.0.dist-info/RECORD": "",
    }
    root = make_root(tmp_path, entries)
    alone, vllm, engine = read_environments(root, ["/opt/alone", "/opt/vllm", "/srv/engine"])[:3]
    assert [(package.name, package.version) for package in vllm.packages] == [
        ("torch", "2.10.0"),
        ("transformers", "4.57.1"),
        ("vllm", "0.19.1"),
    ]
    assert vllm.torch is not None and vllm.torch.path == f"{dist}/torch/version.py"
    assert vllm.leftovers == (), "those of the system's Python are told of it"
    assert (alone.version_of("torch"), alone.torch) == (None, None)
    assert engine.version_of("torch") == "2.9.0"


def test_a_directory_full_of_names_costs_little_and_fills_no_report(tmp_path: Path) -> None:
    top = "/opt/vllm/lib/python3.13/site-packages"
    names = [f"{top}/vllm-0.{number}.dist-info/METADATA" for number in range(600)]
    root = make_root(
        tmp_path,
        {
            "/opt/vllm/pyvenv.cfg": "",
            **dict.fromkeys(names, "Name: vllm\nRequires-Dist: torch==2.10.0\n"),
            **{f"{top}/~orch{number}": "" for number in range(600)},
        },
    )
    (environment,) = read_environments(root, ["/opt/vllm"])
    assert len(environment.packages) <= 256
    assert len(environment.leftovers) <= 64
    assert len(environment.requirements) <= 32
