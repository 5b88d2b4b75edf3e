# ruff: noqa: E501 (a table of inputs)
"""Each reader of foreign bytes takes time in proportion to its input, and at most 100 MB and four times its size of memory.

The inputs are made to be hard: the longest words, the deepest nesting that is allowed, the most rows, each with something
that a reader could look up in all the others. A row of tests/fuzz/parsers.py without an input here fails.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from tests.fuzz.parsers import FILES, PARSERS, REFUSALS, machine
from tests.unit.growth import growth, peak_bytes

from bedplate.host.facts import read_host
from bedplate.host.record.record import record_host
from bedplate.host.root.cpu_lists import NUMBERS_LIMIT, CpuSets
from bedplate.host.root.recording import MemoryTree, open_recording

# Of CPU time, for ten times the input. On a quiet host 12 holds: BEDPLATE_TEST_GROWTH=12. On a busy one other processes take
# the caches of the CPU from the larger input alone, which was seen to make it 17; a square makes it 100.
TIMES = float(os.environ.get("BEDPLATE_TEST_GROWTH", "30"))
LEAST_BYTES = 100 << 20
Make = Callable[[int], bytes]


def lines(row: str, head: str = "", end: str = "") -> Make:
    """So many rows; {n} in one is its number, {h} the same in hexadecimal of two digits each."""
    return lambda count: "".join(
        [head, *(row.replace("{n}", str(n)).replace("{h}", f"{n >> 8 & 255:02x}:{n & 255:02x}") for n in range(count)), end]
    ).encode()


def run(unit: str, head: str = "", end: str = "", times: int = 30) -> Make:
    """One word of so many units, as long for a long unit as for a short one."""
    return lambda count: (head + unit * max(1, count * times // len(unit)) + end).encode()


def gguf(count: int) -> bytes:
    """Keys with strings, and arrays of numbers."""
    out = io.BytesIO()
    out.write(b"GGUF" + struct.pack("<IQQ", 3, 1, min(count, 4000) + 1))
    for key, kind, value in (
        ("general.architecture", 8, struct.pack("<Q", 5) + b"llama"),
        *((f"k{n}.attention.head_count", 9, struct.pack("<IQ", 4, 60) + b"\1\0\0\0" * 60) for n in range(min(count, 4000))),
    ):
        out.write(struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value)
    return out.getvalue()


def gguf_strings(count: int) -> bytes:
    key = b"tokenizer.ggml.tokens"
    items = (struct.pack("<Q", 1) + b"x") * (count * 10)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", len(key)) + key
    return head + struct.pack("<IIQ", 9, 8, count * 10) + items


def safetensors(count: int) -> bytes:
    table = {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]} for n in range(count)}
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * count)


def safetensors_text(text: str) -> Make:
    return lambda count: (lambda header: struct.pack("<Q", len(header)) + header)(b"{" + text.encode() * (count * 20))


def tar(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"") -> Make:
    def make(count: int) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for n in range(count):
                info = tarfile.TarInfo(name.replace("{n}", str(n)))
                info.type, info.size, info.linkname = kind, len(data), "../" * 30 + str(n)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return make


def pax(count: int) -> bytes:
    """Headers with as many keys as they may have."""
    record = b"".join(b"%d k%04d=x\n" % (len("00 k0000=x\n"), n) for n in range(400))
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    block = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(-(-len(record) // 512) * 512, b"\0")
    return block * max(1, count // 10)


def titles(count: int) -> bytes:
    """Titles as long as all that is below them: a reader that puts them before each value multiplies the two."""
    above = "".join(" " * depth + "T" * (60 * count) + "\n" for depth in range(4, 11))
    below = "".join(f"            {n} : v\n" for n in range(count))
    return f"==NVSMI LOG==\nGPU 00000000:19:00.0\n{above}{below}".encode()


def tags(count: int) -> bytes:
    tags = [letter * (60 * count) for letter in "abcdefg"]
    above, end = "".join(f"<{tag}>" for tag in tags), "".join(f"</{tag}>" for tag in reversed(tags))
    below = "".join(f"<v{n}>v</v{n}>" for n in range(count))
    return f"<nvidia_smi_log><gpu id='00000000:19:00.0'>{above}{below}{end}</gpu></nvidia_smi_log>".encode()


HWLOC = '<topology version="2.0"><object type="Machine" cpuset="0x1" nodeset="0x1">'
PCI = '<object type="PCIDev" pci_busid="0000:{h}.0" pci_type="0200 [15b3:1021] [15b3:1021] 00">'
INPUTS: dict[str, list[Make]] = {
    "lspci": [
        lines("{h}.0 PCI bridge: Intel\n\tBus: primary=00, secondary=01, subordinate=ff\n"),
        lines("\t\tACSCtl:\tSrcValid+\n", "19:00.0 x: y\n"),
        run("a", "19:00.0 3D controller: "),
        lines("19:00.0 " + "[" * 50 + ": (rev (rev\n"),
        run("Region 0: Memory at ", "19:00.0 x: y\n\t"),
        lambda count: b"19:00.0 x: y\n" + b"\ta\n" * (count * 500),
    ],
    "nvidia-smi": [
        lines("    " * 6 + "Title {n} : value\n", "==NVSMI LOG==\nGPU 00000000:19:00.0\n"),
        lines("        Process ID : {n}\n", "==NVSMI LOG==\nGPU 00000000:19:00.0\n    Processes\n"),
        lines("GPU {n}: x (UUID: GPU-1)\n\t Link 0: 25 GB/s\n"),
        run(" ", "==NVSMI LOG==\nGPU 00000000:19:00.0\n"),
        run("NVIDIA-SMI version  "),
        lines("<a{n}/>", "<nvidia_smi_log><gpu id='00000000:01:00.0'>", "</gpu></nvidia_smi_log>"),
        titles,
        tags,
        lambda count: b"==NVSMI LOG==\nGPU 00000000:19:00.0\n" + b"ab\n" * (count * 500),
    ],
    "nvidia-smi-pci": [lines("    T{n} : v\n", "==NVSMI LOG==\nGPU 00000000:19:00.0\n"), run("GPU 0: (")],
    "nvml": [
        lines('{"Name": {"value": "x"}},', '{"format": 1, "devices": [', "{}]}"),
        lines('{"a": {n}, "b": 0, "P2PStatus": {"value": 0}},', '{"format": 1, "devices": [], "pairs": [', "{}]}"),
        run("[", times=5),
        run("9", '{"format": '),
    ],
    "rocm-smi": [
        lines('"(Topology) Link type between DRM devices 0 and {n}": "XGMI",', '{"card0": {}, "system": {', '"a": 1}}'),
        lines('"card{n}": {"PCI Bus": "0000:{h}.0"},', "{", '"card0": {}}'),
    ],
    "rocm-smi-pci": [lines('"card{n}": {"PCI Bus": "0000:{h}.0"},', "{", '"card0": {}}')],
    "lsblk": [
        lines('{"name": "a{n}", "mountpoints": ["/{n}"]},', '{"blockdevices": [', '{"name": "z"}]}'),
        run("{},", '{"blockdevices": ['),
    ],
    "nccl": [
        lines('<pci busid="0000:{h}.0" class="0x030200"><gpu dev="{n}"><nvlink target="0000:00:01.0" count="1"/></gpu></pci>',
              '<system><cpu numaid="0" affinity="ff">', "</cpu></system>"),
        run("ffffffff,", '<system><cpu numaid="0" affinity="', '"/></system>'),
        lines('<cpu numaid="{n}" affinity="ff"/>', "<system>", "</system>"),
    ],
    "hwloc": [
        lines(PCI + '<object type="OSDev" name="eth{n}"/><object type="OSDev" name="mlx5_{n}"/></object>', HWLOC,
              "</object></topology>"),
        lines('<object type="L3Cache" cpuset="0xffffffff,0xffffffff,0x{n}"/>', HWLOC, "</object></topology>"),
        run("<!--a-->", "<topology>", "</topology>"),
        run("a", "<topology a='"),
        run("&lt;", "<topology>", "</topology>"),
        run("<a/>", "<topology>", "</topology>"),
        run("1 ", HWLOC + "</object><distances2 type='NUMANode' indexing='os'><u64values>", "</u64values></distances2></topology>"),
    ],
    "cpu-list": [lines("{n},"), run("0-16383,"), run("-"), run("9"), run(" ")],
    "cpu-mask": [run("ffffffff,", times=7), run("f"), run(",")],
    "paste": [
        lines("|      | a reason of many lines |\n", head="| Diagnostic | Result |\n| PCIe | Fail |\n"),
        lines("| test {n} | Fail |\n", head="| Diagnostic | Result |\n"),
        lines("| {n}   | Name: NVIDIA A100 |\n", head="2 GPUs found.\n"),
        lines(">>> torch.cuda.is_available()\nFalse\n"),
        *(run(unit) for unit in ("<!--", "<a>", "GPU 0: a", "\n", "00:00.0 ", "> ", ">    ", "<p>", "<p>>", "\x1b[", "```", "a@b:", "$ cat /proc/a\n", "\r", "[1m")),
        *(lines(row) for row in ("00:00.0 a: b\n", "{n}\n", "[ {n}.000000] NVRM: Xid {n}\n", "$ cat /proc/{n}\nx\n", "GPU {n}: a (UUID: GPU-{n})\n")),
        lines('{"a": [{n}],\n', "[\n"),
        lines("<a>\n<b/>\n", "<system version='1'>\n"),
        lines("{h}.0 3D controller: NVIDIA Corporation Device 2330\n$ x\n"),
        lines("node {n} cpus: {n} {n}\nnode {n} size: {n} MB\n"),
        lines("GPU{n}\tNV18\tSYS\n", "\tGPU0\tGPU1\n"),
        lines("|   0  A   On  | 00000000:{h}.0 Off | 0 |\n", "| NVIDIA-SMI 590.48.01    Driver Version: 590.48.01 |\n"),
    ],
    "dcgm": [lines("|      | a reason of many lines |\n", head="| PCIe | Fail |\n"), run("|"), run("| a | Fail |\n"), run("GPU ID: ")],
    "dcgm json": [lines('{"name": "a", "status": "Fail", "warnings": ["b"]},\n', head="[", end="{}]"), run("["), run('{"a":')],
    "python session": [lines(">>> torch.cuda.is_available()\nFalse\n"), run("torch."), run("'1.2.3")],
    "pci-config": [lambda count: b"\x86\x80\1\2\0\0\x10\0" + b"\x41" * (count * 60)],
    "unpack": [lambda count: gzip.compress(bytes(count * 4000)), lambda count: gzip.compress(b"a") * count],
    "tar": [
        tar("sys/{n}/" + "a/" * 60 + "f"),
        tar("sys/{n}", tarfile.SYMTYPE),
        tar("a", tarfile.LNKTYPE),
        tar("proc/{n}", data=b"x" * 3000),
        pax,
    ],
    "ttar": [
        lines("Path: proc/{n}\nLines: 1\nNULLBYTEEOF\n"),
        run("NULLBYTE", "Path: a\nLines: 1\n"),
        run("\\", "Path: a\nLines: 1\n"),
        run("\n"),
        lines("Directory: " + "a/" * 50 + "{n}\n"),
        run("a", "Path: a\nLines: 1\n", times=6_000),
    ],
    "command line": [
        run("a", "llama-server\0"),
        lines("--user=user=a{n}\0", "llama-server\0"),
        lines("--api-key\0{n}\0", "vllm\0serve\0"),
        run('"user":[', "llama-server\0--config\0"),
        run("-eyJ", "llama-server\0"),
        run("a.", "llama-server\0"),
        lines("--m{n}=x\0", "llama-server\0"),
        run("-u\0-p\0", "redis-cli\0"),
        run("a_token\0"),
        run("-p'", "mysql\0"),
        run("u:a/@", "--x=postgres://"),
    ],
    "secrets": [
        *(run(unit) for unit in ("a", "a.", "a=", "user=", "token=", "a:", "-a ", "'a':", '"token": {', "a://", "://@", "eyJ", "-eyJ")),
        *(run(unit) for unit in ("key-file=/", "password=,", "Bearer ", "\\\"a\\\": ", "-----BEGIN PRIVATE KEY-----", "authorization: ")),
        *(run(unit) for unit in ("a@", "a:a@", "sk-", ",a=", "{", "user={", "token\t", " -u a", "/services/", "A0", "=")),
        *(run(unit) for unit in ("password= a ", "password=a,", "password=a;a b", "password: a\n", "token=0 ", "token=0&a", "a=token=\"", "\"token=")),
        *(run(unit) for unit in ("://u:a/", "://u:1/@", "a://u:a@", "u:@", ",u:a/", "-ua:", " -ua:b", "login a ", "requirepass ", "redis-cli -a ")),
        *(run(unit) for unit in ("mysql -p'", "curl \"", "--token a ", "--token \"a ", "'token': a ", "'token': ***", "token={", "cookie: \"")),
        *(run(unit, "password=") for unit in (" ", "a ", ", ", "a&", "a_", "\n", "a: ", "A ", "\0", "'", "]", "-a ")),
        *(run(unit) for unit in ("%3D", "%25", "\\x20", "\\", "%20a: ", "echo ", "echo |", "echo > token", "|", "<<<\"a ", "<<<'", "//a:", "//a:@")),
        *(run(unit) for unit in ("<token>", "<token>a</", "name: token ", "name: token, value: a ", '"token","a",', '"token" ', "['token',", "a]=")),
        *(run(unit) for unit in ("set token ", "set -x token a ", "header ", "--token\n", "--token,", "--token\\\n- ", "a -> ", "token -> a ")),
        *(run(unit) for unit in ("token=\"a\"'b'", "token=\"\"''", "token=$'", "token=\\\"", 'token=["', "token=(", 'token=["]', "-api-k ")),
        *(run(unit) for unit in ("Private-Lines: ", "---- END ", "---- BEGIN ", "\u2014a", "\uff1d", "user a password ", "?code=a&", "/bot1234:a")),
        *(run("a", head) for head in ("% ", "\\ ")),
        *(run(unit, "token") for unit in (" ", "\t", "]", "\\", "\\\n")),
    ],
    "redact": [
        *(run(unit) for unit in ("a", "a.", "a-", "-a", "ab:", "0:", "1.1.", "a@a.", "http://a/", "(a@b", "bob ", "serial ", "/home/a")),
        lines("10.{n}.1.1 host{n}.example.com /home/u{n}/x ab:cd:ef:00:{h}\n"),
        lines("{n}@mail{n}.org serial: abcd{n}\n"),
    ],
    "trim": [
        *(run(unit) for unit in ("\n", " \n", "APT::Periodic::Unattended-Upgrade ", "Unattended-Upgrade::Package-Blacklist {", "a=", "- ")),
        lines("27 1 254:0 / /m{n} rw - nfs4 filer{n}:/x rw,addr=10.0.0.1\n"),
        lines("Environment=A{n}=x OMP_X='1\n"),
        *(run(unit, "Environment=") for unit in ("a\\\n", "\\", 'A="b ')),
        run('"a ', "ExecStart="),
        lines("Package: nvidia-driver-{n}\nStatus: install ok installed\n\n"),
    ],
    "file": [
        *(partial(lambda index, count: bytes([index]) + lines("{n} a{n}: {n} kB\n")(count), index) for index in range(len(FILES))),
        *(partial(lambda index, count: bytes([index]) + b"\n" * (count * 20), index) for index in range(len(FILES))),
    ],
    "gguf": [gguf, gguf_strings],
    "safetensors": [safetensors, safetensors_text('"a'), safetensors_text("\\n"), safetensors_text('"a":0,'), safetensors_text("[")],
    "manifest": [
        lines('"/proc/{n}",', '{"schema": 1, "absent": [', '"/x"]}'),
        lines('"/proc/{n}": ["a"],', '{"schema": 1, "names": {', '"/x": []}}'),
    ],
    "tables": [lines("a{n} N0={n} kernelpagesize_kB=4\n"), run("N0=1 "), run("\n"), run('"'), run("1."), run("a ~")],
    "pci.ids": [lines("\t{n}  x\n", "10de  NVIDIA\n"), lines("\n10de  x{n}")],
    "index of models": [lines('{"name": "m{n}"},', '{"schema": 2, "models": [', "0]}")],
    "front": [lines("engine-{n},engine,UP,{n},L7OK,\n", "# pxname,svname,status,lastchg,check_status,\n"), run(","), run('"')],
    "kernel log": [
        lines("[ {n}.0] NVRM: Xid (PCI:0000:{h}): {n}, pid={n}, name=x{n}, y\n"),
        lines("Jan 05 01:02:03 h kernel: Out of memory: Killed process {n} (x{n}) total-vm:1kB\n"),
        lines("[ {n}.0] nvidia 0000:{h}.0: PCIe Bus Error: severity=Corrected\n"),
        *(run(unit) for unit in ("a", "[", " ", "\n", "\n ", "<1>", "a\n", "[ 1.0] ", "NVRM: ", "NVRM: The NVIDIA GPU ", "kern  :warn  : ")),
        *(run(unit, "[ 1.0] ") for unit in ("a", " ", "[", "NVRM: ", "AER: ", "link down ", "in a [1]", "process 1 (", "task=/a")),
        *(run(unit, "Jan 05 01:02:03 ") for unit in ("a", " ", "a[1]", "kernel: ")),
    ],
}  # fmt: skip
CASES = [(name, number) for name, makes in INPUTS.items() for number in range(len(makes))]
SMALL = 60  # rows


def test_every_reader_has_an_input() -> None:
    assert set(INPUTS) == set(PARSERS)


def read(name: str, data: bytes) -> None:
    with suppress(*REFUSALS):
        PARSERS[name](data)


@pytest.mark.parametrize(("name", "number"), CASES, ids=[f"{name}-{number}" for name, number in CASES])
def test_ten_times_the_input_takes_about_ten_times_as_long(name: str, number: int) -> None:
    small, large = INPUTS[name][number](SMALL), INPUTS[name][number](10 * SMALL)
    most = TIMES * len(large) / (10 * len(small))  # numbers of more digits make it more than ten times as long
    ratio = growth(partial(read, name, small), partial(read, name, large), most=max(most, TIMES))
    assert ratio <= max(most, TIMES), f"{len(small)} -> {len(large)} bytes: {ratio:.1f} times as long"
    assert peak_bytes(partial(read, name, large)) <= LEAST_BYTES + 4 * len(large)


def members(count: int) -> MemoryTree:
    """A server of so many CPUs, devices, interfaces, disks and processes, each with a list of CPUs of its own."""
    files: dict[str, bytes] = {"/proc/meminfo": b"MemTotal: 1 kB\n"}
    for n in range(count):
        near = f"{n}-{n + 7}".encode()
        files |= {
            f"/sys/devices/system/cpu/cpu{n}/topology/core_cpus_list": near,
            f"/sys/devices/system/cpu/cpu{n}/cache/index0/level": b"1",
            f"/sys/devices/system/cpu/cpu{n}/cache/index0/type": b"Data",
            f"/sys/devices/system/cpu/cpu{n}/cache/index0/shared_cpu_list": near,
            f"/sys/devices/system/node/node{n}/cpulist": near,
            f"/sys/bus/pci/devices/0000:{n >> 8 & 255:02x}:{n & 255:02x}.0/class": b"0x060400",
            f"/sys/bus/pci/devices/0000:{n >> 8 & 255:02x}:{n & 255:02x}.0/local_cpulist": near,
            f"/sys/class/net/e{n}/device/numa_node": b"0",
            f"/sys/block/sd{n}/size": b"1",
            f"/proc/{n + 10}/cmdline": b"vllm\0serve\0" if n < 100 else b"x\0",
            f"/proc/{n + 10}/status": b"Name:\tx\nCpus_allowed_list:\t" + near,
            f"/home/user{n}/x": b"",
        }
    return machine(files)


@pytest.mark.parametrize("act", [read_host, record_host])
def test_a_machine_of_ten_times_the_parts_takes_about_ten_times_as_long(act: Callable[..., object]) -> None:
    words = {"origin": "x"} if act is read_host else {"bedplate": "", "recorded": ""}
    small, large = members(40), members(400)
    ratio = growth(lambda: act(small, (), **words), lambda: act(large, (), **words), most=TIMES)
    assert ratio <= TIMES, ratio


def test_all_lists_of_a_machine_together_have_a_bound() -> None:
    """Seven characters and a number, in each of a hundred thousand files."""
    sets = CpuSets()
    with pytest.raises(REFUSALS, match="more than"):
        for number in range(200_000):
            sets.parse_list(f"0-16383,{number}" if number < 16_384 else f"0-{number - 16_384},3")
    assert NUMBERS_LIMIT == 1 << 20
    assert sets.parse_list("0-16383,0"), "what was read before is still known"


def test_a_recording_of_equal_lists_reads_in_time_and_memory(tmp_path: object) -> None:
    """A server of 2,000 CPUs that are all siblings of each other, in each file another way."""
    files: dict[str, bytes] = {"/proc/meminfo": b"MemTotal: 1 kB\n", "/sys/devices/system/cpu/online": b"0-1999"}
    for n in range(2000):
        where = f"/sys/devices/system/cpu/cpu{n}"
        files |= {f"{where}/topology/core_cpus_list": b"0-1999", f"{where}/topology/core_id": b"1"}
        files |= {f"{where}/cache/index3/level": b"3", f"{where}/cache/index3/type": b"Unified"}
        files[f"{where}/cache/index3/shared_cpu_list"] = f"0-1999,{n}".encode()
    tree = machine(files)
    assert peak_bytes(lambda: read_host(tree, (), origin="x")) < LEAST_BYTES


def test_the_archives_of_all_packings_are_held_to_their_memory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of zeros, which pack a thousand to one, as far as the bound."""
    path = tmp_path_factory.mktemp("bomb") / "a.tar.gz"
    path.write_bytes(gzip.compress(tar("proc/{n}", data=bytes(1 << 20))(80), 1))

    def act() -> None:
        with suppress(*REFUSALS):
            open_recording(path)

    assert peak_bytes(act) <= LEAST_BYTES + 4 * path.stat().st_size
