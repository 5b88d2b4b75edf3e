"""The front door of a serving host: HAProxy configuration and admission."""
