"""The only place that knows /proc, ioctls and syscall numbers."""
