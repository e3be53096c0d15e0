"""Where a model adds a branch to its shortcut, and the same code with the branch in a function of its own.

`branches` is asked; `reading` finds the `additions` in a method by what its values are `worth`, and cuts a branch out
along the `flow` of its data; `drop_paths` knows the layers that drop a branch already.
"""
