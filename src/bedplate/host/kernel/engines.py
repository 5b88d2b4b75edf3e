"""Inference engines that run now, found by their command lines, and what the kernel says of each.

An engine of another user is found too; what only its owner or root may read (open files, NUMA placement) is then denied,
and that is said. Sources: proc(5), Documentation/scheduler/sched-stats.rst (schedstat), numa_maps in
Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bedplate.errors import ReadError
from bedplate.host.kernel.attributes import parse_int
from bedplate.host.kernel.cgroup import Hierarchy, read_cgroup
from bedplate.host.kernel.limits import read_limits
from bedplate.host.kernel.processes import Process, parse_schedstat
from bedplate.host.root.root import Root
from bedplate.host.secrets.secrets import hide_secrets
from bedplate.model.facts.system import EngineProcess, Thread

ENGINES_LIMIT = 128  # processes of engines that are looked at; an 8-GPU node of one worker a GPU has some 20
THREADS_LIMIT = 4096  # threads in all; 8 workers with 300 threads each are 2400, 10 ms a hundred
_FILES_LIMIT = 8192  # open files of one process
# Walking the page tables of a terabyte takes the kernel seconds: above this the placement is not asked for.
_NUMA_RSS_LIMIT = 64 << 30  # bytes
_NUMA_LIMIT = 4 << 20  # bytes of numa_maps: some 40 000 mappings

_PROGRAMS = {
    "vllm": "vllm",
    "llama-server": "llama.cpp",
    "llama-box": "llama.cpp",
    "tritonserver": "triton",
    "text-generation-launcher": "tgi",
    "text-generation-server": "tgi",
    "text-generation-router": "tgi",
    "trtllm-serve": "tensorrt-llm",
    "trtllm-llmapi-launch": "tensorrt-llm",
    "ollama": "ollama",
    "sglang": "sglang",
    "transformers": "transformers",
    "bedplate_transformers": "transformers",  # what starts it in an engine of bedplate
    "lmdeploy": "lmdeploy",
    "local-ai": "localai",
    "koboldcpp": "koboldcpp",
    "ik_llama-server": "llama.cpp",
}
# Commands of programs that do other things too: without one of these words they serve nothing.
_SERVING = {
    "vllm": ("serve",),
    "ollama": ("serve", "runner", "start"),
    "sglang": ("serve",),
    "transformers": ("serve",),
    "lmdeploy": ("serve",),
}
_MODULES = (
    ("vllm.entrypoints", "vllm"),
    ("sglang.launch_server", "sglang"),
    ("sglang.srt", "sglang"),
    ("llama_cpp.server", "llama.cpp"),
    ("tensorrt_llm", "tensorrt-llm"),
    ("text_generation_server", "tgi"),
    ("lmdeploy", "lmdeploy"),
    ("aphrodite.endpoints", "aphrodite"),
    ("fastchat.serve", "fastchat"),
    ("mlc_llm", "mlc-llm"),
)
# Titles that workers write over their command lines (setproctitle): "VLLM::Worker_TP0", "sglang::scheduler_TP0".
_TITLES = (("VLLM::", "vllm"), ("sglang::", "sglang"), ("sgl_diffusion::", "sglang"), ("trtllm::", "tensorrt-llm"))
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
DEVICE_FILE = re.compile(
    r"/dev/(nvidia[0-9]{1,3}|kfd|dxg|dri/renderD[0-9]{1,3}|accel/accel[0-9]{1,3}|neuron[0-9]{1,3}|davinci[0-9]+)"
)
_MODEL_OPTIONS = {
    *("-m", "--model", "--model-path", "--model-id", "--model-store", "--model-repository", "--model-dir", "--models-dir"),
    *(
        "-md",
        "--model-draft",
        "--mmproj",
        "--lora",
        "--tokenizer",
        "--engine-dir",
        "--engine_dir",
        "--speculative-draft-model-path",
    ),
}
_POLICIES = {0: "other", 1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}


def find_engine(argv: Sequence[str]) -> str | None:
    """Name of the engine that a command line starts, or None: ("python3", "-m", "sglang.launch_server") -> "sglang"."""
    if not argv:
        return None
    for start, engine in _TITLES:
        if argv[0].startswith(start):
            return engine
    program, rest = _base(argv[0]), list(argv[1:])
    if program in _LOADERS:  # "ld-linux-x86-64.so.2 --library-path DIR PROGRAM ..."
        while rest and _base(rest[0]) not in _PROGRAMS and not _PYTHON.fullmatch(_base(rest[0])):
            rest.pop(0)
        program, rest = (_base(rest[0]), rest[1:]) if rest else ("", [])
    if _PYTHON.fullmatch(program):
        return _find_in_python(rest)
    return _find_program(program, rest)


def read_engines(
    root: Root, processes: Sequence[Process], hierarchies: dict[str, Hierarchy], nodes: Sequence[int]
) -> tuple[EngineProcess, ...]:
    """Each process of an engine, by number; a process that ends meanwhile is left out."""
    found: list[EngineProcess] = []
    threads_left = THREADS_LIMIT
    for process in processes:
        engine = find_engine(process.argv)
        if engine is None or len(found) >= ENGINES_LIMIT:
            continue
        status = parse_status(root.read(f"/proc/{process.pid}/status").value or "")
        if not status:
            continue
        threads = _read_threads(root, process.pid, threads_left)
        threads_left -= len(threads)
        rss = _kib(status.get("VmRSS"))
        argv = hide_secrets(process.argv)  # once: whatever is read in it is without secrets too
        devices, devices_known = _read_devices(root, process.pid)
        adjustment = parse_int(root.read(f"/proc/{process.pid}/oom_score_adj").value or "")
        found.append(
            EngineProcess(
                engine=engine,
                pid=process.pid,
                argv=argv,
                threads=threads,
                cgroup=read_cgroup(root, hierarchies, str(process.pid)),
                rss_bytes=rss,
                swap_bytes=_kib(status.get("VmSwap")),
                numa_bytes=_read_numa(root, process.pid, rss, nodes),
                limits=read_limits(root, str(process.pid)),
                oom_score_adj=adjustment or 0,
                devices=devices,
                devices_known=devices_known,
                model_paths=find_models(argv),
            )
        )
    return tuple(found)


def find_models(argv: Sequence[str]) -> tuple[str, ...]:
    """Files and directories that a command line names as models; a name of a hub ("Qwen/Qwen3-8B") is none."""
    found: list[str] = []
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in _MODEL_OPTIONS and equals:
            found.append(value)
        elif (word in _MODEL_OPTIONS or word == "serve") and index + 1 < len(argv):
            found.append(argv[index + 1])
    return tuple(dict.fromkeys(path for path in found if path.startswith(("/", "./", "../", "~/"))))


def parse_status(text: str) -> dict[str, str]:
    """ "VmRSS:\\t  100 kB" -> {"VmRSS": "100 kB"}; proc_pid_status(5)."""
    rows = (line.partition(":") for line in text.splitlines()[:256])
    return {name: value.strip() for name, colon, value in rows if colon}


def parse_policy(stat: str) -> str:
    """Scheduling policy, field 41 of /proc/PID/stat; the name in field 2 may hold anything, so it is counted behind it."""
    fields = stat.rpartition(")")[2].split()
    number = parse_int(fields[38]) if len(fields) > 38 else None
    return _POLICIES.get(number, "unknown") if number is not None else "unknown"


def parse_numa_maps(text: str) -> tuple[tuple[int, int], ...]:
    """Bytes by node: a line "7f00 default anon=3 N0=2 N1=1 kernelpagesize_kB=4" counts 8192 for 0 and 4096 for 1."""
    nodes: dict[int, int] = {}
    for line in text.splitlines():
        size = re.search(r" kernelpagesize_kB=([0-9]{1,9})\b", line)
        if size is None:
            continue
        for found in re.finditer(r" N([0-9]{1,4})=([0-9]{1,15})\b", line):
            node = int(found[1])
            nodes[node] = nodes.get(node, 0) + int(found[2]) * int(size[1]) * 1024
    return tuple(sorted(nodes.items()))


def _find_in_python(rest: list[str]) -> str | None:
    """Behind python's own options stands "-m MODULE" or a script."""
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "-m" and rest:
            return next((engine for start, engine in _MODULES if _starts(rest[0], start)), None) or _find_program(
                rest[0].split(".", 1)[0], rest[1:]
            )
        if option in ("-W", "-X", "-c") and rest:
            if option == "-c":
                return None
            rest.pop(0)
    if not rest:
        return None
    script = rest[0]
    return _find_program(_base(script).removesuffix(".py"), rest[1:]) or next(
        (engine for start, engine in _MODULES if start.replace(".", "/") in script and script.endswith(".py")), None
    )


def _find_program(program: str, rest: Sequence[str]) -> str | None:
    engine = _PROGRAMS.get(program)
    wanted = _SERVING.get(program)
    if engine is None or (wanted is not None and not any(word in wanted for word in rest)):
        return None
    return engine


def _starts(module: str, start: str) -> bool:
    return module == start or module.startswith(start + ".")


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _read_threads(root: Root, pid: int, limit: int) -> tuple[Thread, ...]:
    tids = sorted(
        int(name) for name in root.listdir(f"/proc/{pid}/task") if name.isascii() and name.isdigit() and len(name) <= 9
    )
    threads: list[Thread] = []
    for tid in tids[: max(limit, 0)]:
        where = f"/proc/{pid}/task/{tid}"
        status = parse_status(root.read(f"{where}/status").value or "")
        if not status:
            continue
        run_ns, wait_ns = parse_schedstat(root.read(f"{where}/schedstat").value)
        try:
            allowed = root.cpu_sets.parse_list(status.get("Cpus_allowed_list", ""))
        except ReadError:
            allowed = ()
        threads.append(
            Thread(
                tid=tid,
                name=status.get("Name", ""),
                allowed=allowed,
                run_s=run_ns / 1e9,
                wait_s=wait_ns / 1e9,
                policy=parse_policy(root.read(f"{where}/stat").value or ""),
            )
        )
    return tuple(threads)


def _read_devices(root: Root, pid: int) -> tuple[tuple[str, ...], bool]:
    names = root.names(f"/proc/{pid}/fd")
    if names.value is None:
        return (), False
    targets = (root.readlink(f"/proc/{pid}/fd/{name}") or "" for name in names.value[:_FILES_LIMIT])
    return tuple(sorted({target for target in targets if DEVICE_FILE.fullmatch(target)})), True


def _read_numa(root: Root, pid: int, rss_bytes: int, nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if len(nodes) == 1:
        return ((nodes[0], rss_bytes),)
    if rss_bytes > _NUMA_RSS_LIMIT:
        return ()
    return parse_numa_maps(root.read(f"/proc/{pid}/numa_maps", limit=_NUMA_LIMIT).value or "")


def _kib(text: str | None) -> int:
    found = re.match(r"([0-9]{1,15}) kB", text or "")
    return int(found[1]) * 1024 if found is not None else 0
