"""The container: frames, writer, reader, sinks and sources."""
