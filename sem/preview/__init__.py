"""What a contribution of data is worth to a sem, in minutes, on a CPU, with an honest interval."""
