"""Generated from `proto/`; see `regenerate.sh`."""
