"""The version of this package; the workspace's Cargo.toml has the same."""

__version__ = "0.1.0"
