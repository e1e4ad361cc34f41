"""The same mathematics of training in fewer and smaller passes over memory, for CPUs."""
