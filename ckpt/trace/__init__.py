"""Control of running tasks: ptrace, freezer, remote syscalls, skeletons."""
