"""The C extension: in which instruction sets this machine can run it, and what it is called for."""

from dropact.kernels import cpu


def instruction_sets():
    names = []
    for name in ("baseline", "avx2", "avx512"):
        try:
            cpu.extension.use_instructions(name)
            names.append(name)
        except ValueError:
            pass
    cpu.extension.use_instructions("best")
    return names


def watched(monkeypatch):
    """The codes of the operations that the extension is called for from here on."""
    calls, real = [], cpu.extension

    class Spy:
        def run(self, *args):
            calls.append(args[0])
            return real.run(*args)

        def pair(self, *args):
            calls.append("pair")
            return real.pair(*args)

        def __getattr__(self, name):
            return getattr(real, name)

    monkeypatch.setattr(cpu, "extension", Spy())
    return calls
