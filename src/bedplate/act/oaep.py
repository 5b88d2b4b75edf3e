"""RSAES-OAEP with SHA-256, MGF1-SHA-256 and an empty label, encryption only. Source: RFC 8017, sections 7.1.1 and B.2.1.

The image has no library for it, and holds no private key: all that is secret here is the message, a random key that is
encrypted once (docs/decisions/0054-recovery-key.md).
"""

from __future__ import annotations

import hashlib

_HASH_BYTES = 32


def encrypt_oaep(message: bytes, *, modulus: int, exponent: int, seed: bytes) -> bytes:
    """The ciphertext, as long as the modulus. seed: 32 random bytes, used once. Raises ValueError on a long message."""
    size = (modulus.bit_length() + 7) // 8
    if len(seed) != _HASH_BYTES:
        raise ValueError(f"seed: got {len(seed)} bytes, expected {_HASH_BYTES}")
    if len(message) > size - 2 * _HASH_BYTES - 2:
        raise ValueError(f"message: got {len(message)} bytes, expected at most {size - 2 * _HASH_BYTES - 2}")
    padding = bytes(size - len(message) - 2 * _HASH_BYTES - 2)
    block = hashlib.sha256(b"").digest() + padding + b"\x01" + message
    masked_block = _xor(block, mask(seed, len(block)))
    masked_seed = _xor(seed, mask(masked_block, _HASH_BYTES))
    number = int.from_bytes(b"\x00" + masked_seed + masked_block, "big")
    return pow(number, exponent, modulus).to_bytes(size, "big")


def mask(seed: bytes, size: int) -> bytes:
    """The mask generation function MGF1 with SHA-256 (RFC 8017, B.2.1): `size` bytes made of the seed."""
    blocks = (hashlib.sha256(seed + count.to_bytes(4, "big")).digest() for count in range(-(-size // _HASH_BYTES)))
    return b"".join(blocks)[:size]


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))
