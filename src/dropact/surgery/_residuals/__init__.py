"""Where a model adds a branch to its shortcut, and the same code with the branch in a function of its own.

`branches` is asked; `reading` finds the `additions` in a method by the `provenance` of both sides and by `judgement`,
and cuts a branch out by its `dataflow`; `drop_paths` knows the layers that drop a branch already.
"""
