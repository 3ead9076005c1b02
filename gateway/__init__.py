"""A self-hosted real-time WebSocket connection gateway."""

__version__ = "0.1.0"
