"""Names of PCI classes and makers as `lspci` prints them without -n, and their numbers (PCI Code and ID Assignment 1.16).

Only what a server has; what is not here keeps number 0, which is said nowhere to be a class of interest.
"""

from __future__ import annotations

CLASSES = {
    "SCSI storage controller": 0x0100,
    "IDE interface": 0x0101,
    "RAID bus controller": 0x0104,
    "SATA controller": 0x0106,
    "Serial Attached SCSI controller": 0x0107,
    "Non-Volatile memory controller": 0x0108,
    "Mass storage controller": 0x0180,
    "Ethernet controller": 0x0200,
    "Infiniband controller": 0x0207,
    "Fabric controller": 0x0208,
    "Network controller": 0x0280,
    "VGA compatible controller": 0x0300,
    "3D controller": 0x0302,
    "Display controller": 0x0380,
    "Multimedia audio controller": 0x0401,
    "Audio device": 0x0403,
    "RAM memory": 0x0500,
    "Memory controller": 0x0580,
    "Host bridge": 0x0600,
    "ISA bridge": 0x0601,
    "PCI bridge": 0x0604,
    "Bridge": 0x0680,
    "Communication controller": 0x0780,
    "Serial controller": 0x0700,
    "PIC": 0x0800,
    "IOMMU": 0x0806,
    "System peripheral": 0x0880,
    "Generic system peripheral": 0x0807,
    "USB controller": 0x0C03,
    "SMBus": 0x0C05,
    "Serial bus controller": 0x0C80,
    "Encryption controller": 0x1080,
    "Signal processing controller": 0x1180,
    "Performance counters": 0x1101,
    "Processing accelerators": 0x1200,
    "Non-Essential Instrumentation": 0x1300,
    "Co-processor": 0x0B40,
    "Unassigned class": 0xFF00,
}

MAKERS = {
    "NVIDIA Corporation": 0x10DE,
    "Advanced Micro Devices, Inc. [AMD/ATI]": 0x1002,
    "Advanced Micro Devices, Inc. [AMD]": 0x1022,
    "Intel Corporation": 0x8086,
    "Mellanox Technologies": 0x15B3,
    "Broadcom / LSI": 0x1000,
    "Broadcom Inc. and subsidiaries": 0x14E4,
    "PMC-Sierra Inc.": 0x11F8,
    "Micron Technology Inc": 0x1344,
    "Samsung Electronics Co Ltd": 0x144D,
    "Matrox Electronics Systems Ltd.": 0x102B,
    "ASPEED Technology, Inc.": 0x1A03,
    "ASMedia Technology Inc.": 0x1B21,
    "Red Hat, Inc.": 0x1AF4,
    "Amazon.com, Inc.": 0x1D0F,
    "Microsoft Corporation": 0x1414,
    "Google, Inc.": 0x1AE0,
    "Habana Labs Ltd.": 0x1DA3,
    "Qualcomm Technologies, Inc": 0x17CB,
    "Xilinx Corporation": 0x10EE,
    "PLDA": 0x1556,
    "PLX Technology, Inc.": 0x10B5,
    "Microchip Technology / SMSC": 0x1055,
    "KIOXIA Corporation": 0x1E0F,
    "Solidigm": 0x025E,
    "Sandisk Corp": 0x15B7,
    "SK hynix": 0x1C5C,
}


def maker_of(name: str) -> int:
    """PCI vendor number of a device's printed name, which begins with its maker; 0 when it is not known here."""
    return next((number for maker, number in MAKERS.items() if name.startswith(maker)), 0)
