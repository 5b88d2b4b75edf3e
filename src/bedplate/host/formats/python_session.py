"""A few lines of Python that ask PyTorch whether it finds an accelerator, and its answers.

The prompts are gone when it is read: "torch.cuda.is_available()", then "False"; or one line of `python3 -c` and the answers.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bedplate.errors import ReadError
from bedplate.host.formats.section import Section
from bedplate.host.formats.unrecorded import empty_facts
from bedplate.model.facts.host import HostFacts
from bedplate.model.facts.reading import known
from bedplate.model.facts.system import Frameworks

SOURCE = "Python session"
_CALL = (
    r"(?:print\()?torch\.(?:cuda\.(?:is_available|device_count|get_device_name)\(|(?:__version__|version\.(?:cuda|hip))\b)"
)
BEGINS = re.compile(
    r"(?:>{2,3} ?|In \[\d{1,4}\]: )?(?:" + _CALL + r"|python3? -c [\"'].{0,200}torch\.cuda\.is_available\(\)|import torch$)"
)
CONTINUES = re.compile(
    r"(?:>{2,3} ?|In \[\d{1,4}\]: |Out ?\[\d{1,4}\]: )|import torch\b|exit\(\)|(?:print\()?torch\."
    r"|(?:True|False|None|\d{1,3})\s{0,4}$|'?\d{1,2}\.\d{1,3}(?:\.\d{1,3})?(?:[+.a-z][\w.+]{0,30})?'?\s{0,4}$"
    r"|\s{0,8}return torch\._C\._cuda_|.{0,200}UserWarning: CUDA initialization"
)
_SIGN = re.compile(r"(?:>{2,3} ?|In \[\d{1,4}\]: |Out ?\[\d{1,4}\]: )")
_VERSION = re.compile(r"'?(\d{1,2}\.\d{1,3}\.\d{1,3}(?:[+.a-z][\w.+]{0,30})?)'?", re.ASCII)


def parse_python_session(section: Section) -> HostFacts:
    """Whether CUDA is available, and PyTorch's version. Raises ReadError where no answer follows a question."""
    available: bool | None = None
    version = ""
    asked = ""
    for line in section.text.split("\n"):
        text = _SIGN.sub("", line.strip())
        if "torch.cuda.is_available()" in text:
            asked = "available"
        elif "torch.__version__" in text:
            asked = "version"
        elif asked == "available" and text in ("True", "False"):
            available = text == "True"
        elif (found := _VERSION.fullmatch(text)) is not None and asked in ("version", "available"):
            version = version or found[1]
    if available is None and not version:
        raise ReadError("the lines of Python hold no answer of torch.cuda.is_available() and no version")
    frameworks = Frameworks(versions=(("torch", version),) if version else (), source=SOURCE)
    if available is not None:
        frameworks = replace(frameworks, cuda_available=known(available, SOURCE, str(available)))
    return replace(empty_facts(section.file), frameworks=frameworks)
