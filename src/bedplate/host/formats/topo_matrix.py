"""How accelerators and network cards meet, from the matrix of `nvidia-smi topo -m`; columns by tabs or by blanks.

The same matrix stands in environment reports. "NV18" is a bonded set of 18 NVLinks; PIX, PXB, PHB, NODE and SYS are what the
legend says (nvidia-smi manual, "topo"). A GPU without any NVLink counts as one whose links are down only where several
others of the matrix have them to each other: a pair may have a bridge that the other cards lack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bedplate.errors import ReadError
from bedplate.host.accel.blank import make_accelerator
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.host.root.cpu_lists import CpuSets
from bedplate.model.facts.cpu import NumaNode, NumaTopology
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.pci import Accelerator, NetworkDevice
from bedplate.model.facts.reading import Reading, Unknown, known, missing

SOURCE = "nvidia-smi topo -m"
BEGINS = re.compile(r"\s{0,40}GPU0[ \t]{1,20}(?:GPU1|CPU Affinity|NIC0|mlx\w)")
CONTINUES = re.compile(
    r"\s{0,12}(?:GPU\d{1,3}[ \t]|NIC\d{1,3}[ \t]|mlx\w{1,20}[ \t]|(?:NIC )?Legend:)"
    r"|\s{2,16}(?:X|SYS|NODE|PHB|PXB|PIX|NV#|NIC\d{1,3}:) "
)
_LEGEND = re.compile(r"\s{0,16}(NIC\d{1,3}): (\S{1,40})", re.ASCII)
_COLUMNS = re.compile(r"GPU NUMA ID|CPU Affinity|NUMA Affinity|[A-Za-z]\S{0,30}", re.ASCII)
_LINKS = re.compile(r"NV(\d{1,2})", re.ASCII)
_GPU = re.compile(r"GPU(\d{1,3})", re.ASCII)
_WAYS = ("X", "SYS", "NODE", "PHB", "PXB", "PIX", "SOC")
_ROWS_MOST = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _MatrixRow:
    """One line of the matrix: what stands in each column."""

    name: str
    cells: dict[str, str]


def parse_topo_matrix(section: Section) -> HostFacts:
    """GPUs with their peers, near RDMA devices and NUMA nodes; the nodes with the CPUs that are near.

    Raises ReadError for a matrix without a row.
    """
    rows, names = _rows(section.text)
    gpus = {int(match[1]): row for row in rows if (match := _GPU.fullmatch(row.name)) is not None}
    if not gpus:
        raise ReadError("the matrix of nvidia-smi topo -m has no row of a GPU")
    links = {index: _links(row) for index, row in gpus.items()}
    sets, nodes = CpuSets(), dict[int, set[int]]()
    accelerators: list[Accelerator] = []
    for index, row in sorted(gpus.items()):
        node = _node(row)
        if node.value is not None:
            nodes.setdefault(node.value, set()).update(_cpus(sets, row))
        blank = make_accelerator(
            vendor="nvidia", index=index, name="", address=None, why=Unknown.NOT_RECORDED, source=SOURCE
        )
        accelerators.append(
            replace(
                blank,
                peers=tuple(sorted(_peers(row))),
                near_rdma=tuple(sorted(_near(row, names))),
                numa_node=node,
                nvlinks_active=_active(index, links),
            )
        )
    network = tuple(_card(name) for name in sorted({names.get(row.name, row.name) for row in rows if row.name[:3] != "GPU"}))
    return replace(
        empty_facts(section.file),
        accelerators=tuple(accelerators),
        numa=NumaTopology(nodes=tuple(_numa_node(node, cpus) for node, cpus in sorted(nodes.items())), source=SOURCE),
        network=network,
    )


def _rows(text: str) -> tuple[list[_MatrixRow], dict[str, str]]:
    """(rows, device by the number that stands for it in the matrix)."""
    columns: list[str] = []
    rows: list[_MatrixRow] = []
    names: dict[str, str] = {}
    for line in text.split("\n"):
        legend = _LEGEND.fullmatch(line.rstrip())
        if legend is not None:
            names[legend[1]] = legend[2]
        elif not columns and BEGINS.match(line) is not None:
            columns = _COLUMNS.findall(line)
        elif columns and CONTINUES.match(line) is not None and "Legend" not in line and len(rows) < _ROWS_MOST:
            name, *cells = _cells(line)
            if any(cell in _WAYS or _LINKS.fullmatch(cell) for cell in cells):
                rows.append(_MatrixRow(name=name, cells=dict(zip(columns, cells, strict=False))))
    return rows, names


def _cells(line: str) -> list[str]:
    """Cells by tabs, where an empty one keeps its place; by blanks otherwise."""
    line = line.lstrip(" ")
    if "\t" in line:
        return [cell.strip() for cell in line.rstrip("\n").split("\t")]
    return line.split()


def _peers(row: _MatrixRow) -> list[tuple[int, str]]:
    found = []
    for column, cell in row.cells.items():
        match = _GPU.fullmatch(column)
        if match is not None and cell and cell != "X" and (cell in _WAYS or _LINKS.fullmatch(cell)):
            found.append((int(match[1]), "NVLink" if cell.startswith("NV") else cell))
    return found


def _near(row: _MatrixRow, names: dict[str, str]) -> list[tuple[str, str]]:
    other = ("CPU Affinity", "NUMA Affinity", "GPU NUMA ID")
    return [
        (names.get(column, column), cell)
        for column, cell in row.cells.items()
        if _GPU.fullmatch(column) is None and column not in other and cell in _WAYS
    ]


def _links(row: _MatrixRow) -> dict[int, int]:
    """Number of bonded NVLinks by the GPU at their other end."""
    return {
        int(gpu[1]): int(count[1])
        for column, cell in row.cells.items()
        if (gpu := _GPU.fullmatch(column)) is not None and (count := _LINKS.fullmatch(cell)) is not None
    }


def _active(index: int, links: dict[int, dict[int, int]]) -> Reading[int]:
    counts = {count for row in links.values() for count in row.values()}
    if links[index]:
        # Through a switch all pairs name the same links; without one, each pair has its own.
        of_this = links[index].values()
        return known(
            max(of_this) if len(counts) == 1 else sum(of_this), SOURCE, ", ".join(f"NV{count}" for count in of_this)
        )
    if not counts or sum(len(row) > 1 for row in links.values()) > 1:
        return known(0, SOURCE, "no NV in its row")
    return missing(Unknown.NOT_RECORDED, SOURCE)


def _node(row: _MatrixRow) -> Reading[int]:
    text = row.cells.get("NUMA Affinity", "")
    if text.isdecimal() and len(text) < 5:
        return known(int(text), f"{SOURCE}: NUMA Affinity", text)
    return missing(Unknown.HIDDEN if text == "N/A" else Unknown.NOT_RECORDED, f"{SOURCE}: NUMA Affinity", text)


def _cpus(sets: CpuSets, row: _MatrixRow) -> tuple[int, ...]:
    try:
        return sets.parse_list(row.cells.get("CPU Affinity", ""))
    except ReadError:
        return ()


def _numa_node(node: int, cpus: set[int]) -> NumaNode:
    return NumaNode(node=node, cpus=tuple(sorted(cpus)), mem_bytes=None, free_bytes=None, distances=(), huge_pages=())


def _card(name: str) -> NetworkDevice:
    return make_rdma_device(name, source=SOURCE)


def make_rdma_device(name: str, *, source: str) -> NetworkDevice:
    """A network device of which only the name of its RDMA device is told, "mlx5_0"."""
    return NetworkDevice(
        name=name,
        driver=missing(Unknown.NOT_RECORDED, source),
        address=None,
        speed_mbps=missing(Unknown.NOT_RECORDED, source),
        operstate="",
        numa_node=missing(Unknown.NOT_RECORDED, source),
        rx_queues=0,
        tx_queues=0,
        irqs=(),
        rdma=(name,),
    )
