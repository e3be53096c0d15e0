"""What runs would cost: a step on this machine (`cost`), a table of runs (`plan`), many devices (`fleet`)."""
