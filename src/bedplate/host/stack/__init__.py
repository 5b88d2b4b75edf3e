"""READ the installed stack: dpkg, apt, dkms, kernel modules, the driver's files, Python environments, GPU code."""
