"""Programs of the environments that have the graders; they import nothing of the project."""
