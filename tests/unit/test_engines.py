"""Engines that run, their cgroups of both versions, and secrets in their command lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.host.kernel.cgroup import find_hierarchies, parse_cgroup, parse_counters, read_cgroup
from bedplate.host.kernel.engines import find_engine, find_models, parse_numa_maps, parse_policy, parse_status, read_engines
from bedplate.host.kernel.mounts import read_mount_rows
from bedplate.host.kernel.processes import read_processes
from bedplate.host.root.root import Root
from bedplate.host.secrets.secrets import hide_secrets, hide_secrets_in
from bedplate.model.facts.reading import Unknown
from bedplate.model.facts.system import CgroupFacts, EngineProcess

MACHINES = Path(__file__).parents[1] / "machines"
SERVER, POD = Root(MACHINES / "ubuntu-vllm"), Root(MACHINES / "pod-cgroup1")


def cgroup_of(root: Root, pid: str = "self") -> CgroupFacts:
    return read_cgroup(root, find_hierarchies(root, read_mount_rows(root)), pid)


def engines_of(root: Root, nodes: tuple[int, ...] = (0, 1)) -> tuple[EngineProcess, ...]:
    return read_engines(root, read_processes(root), find_hierarchies(root, read_mount_rows(root)), nodes)


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("/usr/bin/llama-server -m /models/a.gguf", "llama.cpp"),
        ("/opt/venv/bin/python3 /opt/venv/bin/vllm serve Qwen/Qwen3-8B", "vllm"),
        ("python3.12 -u -X dev -m vllm.entrypoints.openai.api_server --model x", "vllm"),
        ("VLLM::EngineCore", "vllm"),
        ("VLLM::Worker_TP3", "vllm"),
        ("python -m sglang.launch_server --model-path x", "sglang"),
        ("sglang::scheduler_TP0", "sglang"),
        ("/opt/tritonserver/bin/tritonserver --model-repository=/models", "triton"),
        ("/usr/local/bin/ollama serve", "ollama"),
        ("/usr/local/bin/ollama runner --model /root/.ollama/blob", "ollama"),
        ("text-generation-launcher --model-id x", "tgi"),
        ("/usr/bin/python3 /usr/local/bin/trtllm-serve x", "tensorrt-llm"),
        ("python /venv/bin/transformers serve", "transformers"),
        ("python3 -m llama_cpp.server --model x", "llama.cpp"),
        ("/lib64/ld-linux-x86-64.so.2 --library-path /x /opt/bin/llama-server -m a", "llama.cpp"),
        ("python3 /opt/vllm/entrypoints/api_server.py", "vllm"),
        ("ollama pull qwen", None),
        ("vllm bench throughput", None),
        ("vim /opt/venv/bin/vllm serve", None),
        ("grep -r vllm serve", None),
        ("python3 -m pip install vllm", None),
        ("python3 -c import vllm", None),
        ("bash -c vllm serve x", None),
        ("python3", None),
        ("python3 -m", None),
        ("", None),
    ],
)
def test_engines_by_their_command_lines(command: str, engine: str | None) -> None:
    assert find_engine(tuple(command.split())) == engine


def test_an_engine_with_all_that_the_kernel_says_of_it() -> None:
    (engine,) = engines_of(SERVER)
    assert (engine.engine, engine.pid) == ("vllm", 4711)
    assert "topsecret" not in " ".join(engine.argv)
    assert engine.argv[4:8] == ("--api-key", "***", "***", "--tensor-parallel-size")
    assert engine.argv[-1] == "--hf-token=***"
    first, second = engine.threads
    assert (first.allowed, first.run_s, first.wait_s, first.policy) == ((0, 1), 5.0, 0.25, "other")
    assert (second.name, second.allowed, second.policy) == ("a) R (b", (3,), "fifo")
    assert (engine.rss_bytes, engine.swap_bytes, engine.oom_score_adj) == (3 << 30, 1 << 20, -900)
    assert engine.numa_bytes == ((0, 10 * 4096 + (2 << 20)), (1, 4 << 20))
    assert (engine.devices, engine.devices_known) == (("/dev/nvidia0", "/dev/nvidia1"), True)
    assert engine.model_paths == ("/mnt/model store/llama-70b",)
    assert engine.cgroup.quota_cpus.value == 2.0, "the slice's quota is narrower than the service's"
    assert engine.cgroup.throttled_periods.value == 40
    assert engine.cgroup.throttled_s.value == 2.5
    assert engine.cgroup.cpus.value == (0, 1)
    assert engine.cgroup.mems.value == (0, 1), "from the parent"
    assert engine.cgroup.memory_max_bytes.value == 512 << 30
    assert engine.cgroup.swap_max_bytes.value == 0


def test_the_path_of_a_model_is_without_secrets_too(tmp_path: Path) -> None:
    words = ("vllm", "serve", "/models/hf_token=planted/x", "--tokenizer", "/m?X-Amz-Signature=planted", "--lora=/l/a")
    root = make(tmp_path, {"/proc/7/cmdline": "\0".join(words) + "\0", "/proc/7/status": "Name:\tvllm\nVmRSS:\t 100 kB\n"})
    (engine,) = engines_of(root)
    assert engine.model_paths == ("/models/hf_token=***", "/m?X-Amz-Signature=***", "/l/a")
    assert "planted" not in repr(engine)


def test_on_one_node_all_memory_is_there() -> None:
    assert engines_of(SERVER, (0,))[0].numa_bytes == ((0, 3 << 30),)


def test_a_pod_of_six_cpus_on_a_machine_of_96() -> None:
    (engine,) = engines_of(POD)
    assert engine.engine == "sglang"
    assert engine.cgroup.version == 1
    assert engine.cgroup.quota_cpus.value == 6.0
    assert engine.cgroup.cpus.value == tuple(range(96))
    assert (engine.cgroup.periods.value, engine.cgroup.throttled_periods.value) == (1000, 900)
    assert engine.cgroup.throttled_s.value == 123.0
    assert engine.cgroup.memory_max_bytes.value == 64 << 30
    assert engine.cgroup.swap_max_bytes.value == 0
    assert engine.cgroup.cpu_weight.value == 600
    assert engine.threads[0].policy == "batch"
    assert (engine.devices, engine.devices_known) == ((), False), "its open files were not to be read"
    assert cgroup_of(POD).path.startswith("/kubepods/")


def make(directory: Path, files: dict[str, str]) -> Root:
    for where, text in files.items():
        path = directory / where.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Root(directory)


def test_hybrid_counts_the_controllers_of_version_1(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        {
            "/proc/self/mountinfo": "1 0 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
            "2 0 0:2 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "/proc/self/cgroup": "2:cpu:/a\n0::/b\n",
            "/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/unified/b/memory.current": "7\n",
        },
    )
    facts = cgroup_of(root)
    assert (facts.version, facts.path, facts.quota_cpus.value, facts.memory_current_bytes.value) == (1, "/a", 0.5, 7)


def test_without_a_table_of_mounts_the_usual_places_are_looked_at(tmp_path: Path) -> None:
    version2 = make(tmp_path / "2", {"/sys/fs/cgroup/cgroup.controllers": "cpu", "/sys/fs/cgroup/cpu.max": "100000 50000"})
    assert (cgroup_of(version2).version, cgroup_of(version2).quota_cpus.value) == (2, 2.0)
    version1 = make(tmp_path / "1", {"/sys/fs/cgroup/cpu,cpuacct/cpu.shares": "1024"})
    assert (cgroup_of(version1).version, cgroup_of(version1).cpu_weight.value) == (1, 100)
    neither = cgroup_of(make(tmp_path / "0", {"/proc/version": ""}))
    assert (neither.version, neither.quota_cpus.unknown) == (0, Unknown.ABSENT)


def test_a_recording_without_its_hierarchies_knows_no_limits(tmp_path: Path) -> None:
    """hwloc's recordings have /proc/mounts and nothing of /sys/fs/cgroup: that is not "no quota"."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu,cpuacct:/a\n3:cpuset:/a\n2:memory:/a\n")
    (tmp_path / "proc/self/mountinfo").write_text(
        "".join(
            f"3{n} 1 0:{n} / /sys/fs/cgroup/{c} rw - cgroup cgroup rw,{c}\n"
            for n, c in enumerate(("cpu", "cpuset", "memory"))
        )
    )
    told = cgroup_of(Root(tmp_path, absent=Unknown.NOT_RECORDED))
    assert told.version == 1
    assert {reading.unknown for reading in (told.quota_cpus, told.memory_max_bytes, told.cpus, told.periods)} == {
        Unknown.NOT_RECORDED
    }


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("max 100000", Unknown.ABSENT),
        ("100000 0", Unknown.MALFORMED),
        ("x", Unknown.MALFORMED),
        ("", Unknown.MALFORMED),
        ("1 " + "9" * 30, Unknown.MALFORMED),
    ],
)
def test_a_quota_that_is_none(tmp_path: Path, text: str, unknown: Unknown) -> None:
    root = make(tmp_path, {"/sys/fs/cgroup/cgroup.controllers": "", "/sys/fs/cgroup/cpu.max": text})
    assert cgroup_of(root).quota_cpus.unknown is unknown


def test_a_path_outside_of_the_namespace_is_the_mount_itself(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        {
            "/sys/fs/cgroup/cgroup.controllers": "",
            "/sys/fs/cgroup/memory.max": "1000",
            "/proc/self/cgroup": "0::/../../other\n",
        },
    )
    assert cgroup_of(root).memory_max_bytes.value == 1000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("--api-key abc --port 80", "--api-key *** --port 80"),
        ("--api-key a b --model c", "--api-key *** *** --model c"),
        ("--api-key=abc", "--api-key=***"),
        ("--hf-token abc /models/x", "--hf-token *** /models/x"),
        ("--hfToken abc", "--hfToken ***"),
        ("--password hunter2", "--password ***"),
        ("HF_TOKEN=abc", "HF_TOKEN=***"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ("--header Authorization:Bearer", "--header Authorization:Bearer"),
        ("--max-num-batched-tokens 8192", "--max-num-batched-tokens 8192"),
        ("--tokenizer /models/x", "--tokenizer /models/x"),
        ("--pad-token 0", "--pad-token 0"),
        ("--ssl-keyfile /etc/k.pem", "--ssl-keyfile /etc/k.pem"),
        ("--url https://me:pw@example.org/x", "--url https://***@example.org/x"),
        ("run hf_abcdefghijklmnop", "run ***"),
        ("x sk-abcdefghijkl", "x ***"),
        ("x eyJhbGciOiJI.eyJzdWIiOiIx.abc", "x ***"),
    ],
)
def test_secrets_are_hidden(before: str, after: str) -> None:
    assert " ".join(hide_secrets(tuple(before.split()))) == after


def test_secrets_inside_one_argument() -> None:
    assert hide_secrets_in("Authorization: Bearer abc.def") == "Authorization: Bearer ***"
    assert hide_secrets_in("a=1 db_password=x/y z=2 max_tokens=5") == "a=1 db_password=*** z=2 max_tokens=5"


def test_models_that_a_command_line_names() -> None:
    assert find_models(("llama-server", "-m", "/a.gguf", "--mmproj=/b.gguf", "--model", "Qwen/Qwen3-8B")) == (
        "/a.gguf",
        "/b.gguf",
    )


@given(st.text(max_size=300))
def test_no_text_makes_a_parser_fail(text: str) -> None:
    parse_status(text)
    parse_policy(text)
    parse_numa_maps(text)
    parse_cgroup(text)
    parse_counters(text)
    hide_secrets_in(text)


WORDS = ["python3", "-m", "vllm", "serve", "-c", "-X", "--api-key", "x=y", "", "ld-linux-x86-64.so.2", "--", "/", "VLLM::"]


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=8))
def test_no_command_line_makes_a_parser_fail(argv: list[str]) -> None:
    find_engine(argv)
    find_models(argv)
    assert len(hide_secrets(tuple(argv))) == len(argv)
