"""A split model, made of a whole one."""

from __future__ import annotations

from pathlib import Path

import gguf


def split_model(model: bytes, directory: Path) -> dict[str, bytes]:
    """name -> bytes of two parts of a Llama: the first has the keys and half of the tensors."""
    whole = directory / "whole-model.gguf"
    whole.write_bytes(model)
    reader = gguf.GGUFReader(whole)
    half = len(reader.tensors) // 2
    found: dict[str, bytes] = {}
    for number, tensors in ((1, reader.tensors[:half]), (2, reader.tensors[half:])):
        name = f"known-{number:05d}-of-00002.gguf"
        path = directory / name
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number - 1)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        if number == 1:
            for field in reader.fields.values():
                if field.name.startswith("GGUF.") or field.name == "general.architecture":
                    continue
                kind = field.types[0]
                inner = field.types[1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found[name] = path.read_bytes()
        path.unlink()
    whole.unlink()
    return found
