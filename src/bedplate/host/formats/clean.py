"""A line of text as a program printed it: without what a terminal, a mail or a web page put around it.

Removed are colour codes, carriage returns, no-break and zero-width blanks, "> " of quotes. Prompts, Markdown fences and
rules of bug reports are kept apart: they end what stands before them, and a prompt names the command whose output follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# ECMA-48 control sequences, operating system commands (window titles), character sets; and colours that lost their ESC.
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|[()][0-9A-B]|[=>78c])")
# No word in brackets: "always [madvise] never", "[mlx5_core]".
_LOST_ESCAPE = re.compile(r"\[(?:\d{1,3}(?:;\d{1,3}){0,4})?[mK](?![\w.-]{1,40}\])")
_BLANKS = {
    **dict.fromkeys((0xA0, 0x1680, 0x202F, 0x205F, 0x3000, *range(0x2000, 0x200B)), " "),
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD), None),
}
_QUOTE = re.compile(r" {0,8}(?:> ?){1,20}")
_FENCE = re.compile(r"\s{0,200}(?:`{3,20}|~{3,20})\s{0,8}(?P<rest>.*)", re.DOTALL)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+.-]{0,20}\s{0,8}")
_MARKUP = re.compile(r"</?(?:details|summary|pre|code|p|br|div|blockquote)\b[^<>\n]{0,200}>")
_RULE = re.compile(r"_{10,400}\s{0,4}|-{3,8}(?:8<|✂).{0,80}")
_FILE_OF_REPORT = re.compile(r"\*\*\* (?P<path>/\S{1,200})\s{0,4}")
_NOISE_OF_REPORT = re.compile(r"\*\*\* ls: .{0,400}")
_PROMPT = re.compile(
    r"(?:\([\w.+-]{1,40}\) {0,2})?(?:"
    r"[\w.+-]{1,40}@[\w.+-]{1,80}[: ][^#$%>\n]{0,120}[#$%>]|\[[\w.+-]{1,40}@[\w.+-]{1,80} [^\]\n]{0,120}\] ?[#$%]"
    r"|(?:sh|bash)-\d[\d.]{0,6}[#$]|(?P<weak>#{1,6}(?: \$)?|[$%❯➜]))(?: {1,8}(?P<command>\S.{0,4000}))?\s{0,8}"
)
_PROMPT_SIGNS = frozenset("$#%>❯➜")
_SEPARATORS = re.compile(r"[|;&<>]")
_PROGRAMS = frozenset(
    (
        *("nvidia-smi", "lspci", "dmesg", "lscpu", "numactl", "free", "lsblk", "ibstat", "ibstatus", "rocm-smi", "amd-smi"),
        *("hl-smi", "xpu-smi", "uname", "lsmod", "docker", "journalctl", "python", "python3", "cat", "head", "tail", "grep"),
        *(
            "modinfo",
            "ps",
            "vllm",
            "llama-server",
            "ls",
            "ip",
            "rdma",
            "nvidia-bug-report.sh",
            "dcgmi",
            "mount",
        ),
    )
)
_BARE = re.compile(
    r"(?:/\S{1,80}/)?(?:nvidia-smi|lspci|dmesg|lscpu|numactl|free|lsblk|ibstat|ibstatus|rocm-smi|amd-smi|hl-smi|xpu-smi|uname|lsmod"
    r"|docker|journalctl|cat)(?: [A-Za-z0-9_./=,:-]{1,80}){0,12}:?\s{0,4}"
)
_WRAPPED_MOST = 8  # quotes and tags around each other
_WORD_MOST = 40
_WORDS_MOST = 64


@dataclass(frozen=True, slots=True)
class CleanLine:
    """A line without what was around it."""

    text: str
    """ "" for a blank one, and for one that only bounds others."""
    is_boundary: bool = False
    """A prompt, a fence, a rule: what stands before it has ended."""
    command: tuple[str, ...] = ()
    """Of a prompt, its first program and the words behind it: "cat", "/proc/cmdline"."""


def clean_line(line: str) -> CleanLine:
    """A line, with or without its end; at most one of text and boundary, but for a fence with text behind it.

    "> root@node7:~# lspci -vv\\r\\n" is a boundary with the command ("lspci", "-vv").
    """
    line = line.rstrip("\r\n")
    if "\r" in line:  # a progress bar wrote over itself
        line = line.rpartition("\r")[2]
    if "\x1b" in line:
        line = _ESCAPE.sub("", line)
    elif "[0m" in line or "[m" in line:
        line = _LOST_ESCAPE.sub("", line)
    if not line.isascii():
        line = line.translate(_BLANKS)
    is_boundary = False
    begin = line[:9].lstrip(" ")[:1]
    for _ in range(_WRAPPED_MOST):  # a quote of preformatted text, or the other way round
        if begin == ">":
            line = _QUOTE.sub("", line, count=1)
        elif begin == "<" and _MARKUP.match(line.lstrip(" ")) is not None:
            line, is_boundary = _MARKUP.sub("", line), True
        else:
            break
        begin = line[:9].lstrip(" ")[:1]
    if not line or line.isspace():
        return CleanLine("", is_boundary=is_boundary)
    if "```" in line or "~~~" in line:
        fence = _FENCE.fullmatch(line)
        if fence is not None:
            rest = fence["rest"]
            return CleanLine("" if _LANGUAGE.fullmatch(rest) else rest, is_boundary=True)
        line = line.rstrip().removesuffix("```")
    if begin in ("_", "-", "*"):
        if _RULE.fullmatch(line) is not None or _NOISE_OF_REPORT.fullmatch(line) is not None:
            return CleanLine("", is_boundary=True)
        if (named := _FILE_OF_REPORT.fullmatch(line)) is not None:
            return CleanLine("", is_boundary=True, command=("cat", named["path"]))
    command = _command(line)
    return CleanLine(line, is_boundary) if command is None else CleanLine("", is_boundary=True, command=command)


def _command(line: str) -> tuple[str, ...] | None:
    """Words of the command that a prompt, or a line that is nothing but a known command, gives; None for any other line."""
    if not _PROMPT_SIGNS.isdisjoint(line[:240]) and (prompt := _PROMPT.fullmatch(line)) is not None:
        words = split_command(prompt["command"] or "")
        if prompt["weak"] in (None, "$", "❯", "➜") or (words[:1] and words[0] in _PROGRAMS):
            return words
        return None
    return split_command(line) if len(line) <= 400 and _BARE.fullmatch(line) is not None else None


def split_command(text: str) -> tuple[str, ...]:
    """Program and arguments of a shell line: "sudo dmesg -T | grep Xid" -> ("dmesg", "-T"); () for an empty one."""
    words = _SEPARATORS.split(text, maxsplit=1)[0].split()[:_WORDS_MOST]
    for place, word in enumerate(words):
        program = word.rpartition("/")[2]
        if len(program) <= _WORD_MOST and program in _PROGRAMS:
            return (program, *words[place + 1 :])
    return tuple(words)
