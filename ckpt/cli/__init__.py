"""typer in, exit status out; no policy."""
