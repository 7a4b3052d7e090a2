"""Pictures from cameras, each in a process of its own."""
