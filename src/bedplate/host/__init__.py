"""Read the machine: kernel text and host configuration become values. Changes nothing."""
