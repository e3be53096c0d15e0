#!/usr/bin/env bash
# The kernels' bits on other processors, under qemu-user: 64-bit Arm and x86-64 of three levels; and by clang. `make cross-bits`.
#
# Writes results/platforms/bits.txt. On Debian: apt-get install clang qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross
# A Python for Arm comes from Debian's packages into build/cross, beside the system's own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath "$(command -v "${PYTHON:-python3}")")
cross=$PWD/build/cross
log=results/platforms/bits.txt
revision=$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- src || echo +changes)
for tool in clang qemu-x86_64-static qemu-aarch64-static aarch64-linux-gnu-gcc; do
    command -v $tool >/dev/null || {
        echo "cross-bits: no $tool here, say: apt-get install clang qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2
        exit 2
    }
done
mkdir -p "$cross"/{gcc,clang,arm,deb/partial,lists/partial} "$(dirname $log)"
flags=$("$python" -c "import re; print(*re.search(r'GCC_AND_CLANG = \[(.*?)\]', open('setup.py').read(), re.S)[1].replace('\"', '').replace(',', ' ').split())")
include=-I$("$python" -c "import sysconfig; print(sysconfig.get_path('include'))")

root=$cross/python-arm64
if [ ! -x "$root/usr/bin/python3" ]; then
    apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State::Lists="$cross/lists")
    apt-get "${apt[@]}" update
    version=$(apt-cache "${apt[@]}" depends python3-minimal | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal.*/\1/p')
    (cd "$cross/deb" && apt-get "${apt[@]}" download "$version-minimal" "lib$version-minimal" "lib$version-stdlib" \
        libc6 libgcc-s1 libexpat1 zlib1g libffi8)
    for deb in "$cross"/deb/*.deb; do dpkg -x "$deb" "$root"; done
    ln -sf "$version" "$root/usr/bin/python3"
fi

for name in gcc clang; do
    into=$cross/$name
    $name $flags -mprefer-vector-width=512 -shared -fPIC "$include" src/dropact/kernels/_cpu.c -o "$into/_cpu.abi3.so" -lm
done
# The limited API's headers are those of any 64-bit Linux.
aarch64-linux-gnu-gcc $flags -shared -fPIC "$include" src/dropact/kernels/_cpu.c -o "$cross/arm/_cpu.abi3.so" -lm

rm -f "$cross"/*.txt
for name in gcc clang; do
    "$python" scripts/cross_bits.py "$cross/$name" >"$cross/$name.txt"
done
for processor in qemu64 Nehalem Haswell; do
    qemu-x86_64-static -cpu $processor "$python" scripts/cross_bits.py "$cross/gcc" >"$cross/$processor.txt"
done
qemu-aarch64-static -L "$root" "$root/usr/bin/python3" scripts/cross_bits.py "$cross/arm" >"$cross/aarch64.txt"

{
    echo "The kernels of revision $revision by $(gcc --version | head -1), $(clang --version | head -1) and"
    echo "$(aarch64-linux-gnu-gcc --version | head -1): on this machine's processor (gcc, clang) and by gcc under $(qemu-aarch64-static --version | head -1). Made by \`make cross-bits\`."
    echo
    "$python" scripts/cross_bits.py --compare "$cross"/{gcc,clang,qemu64,Nehalem,Haswell,aarch64}.txt || true
} | tee "$log" | tail -3
! grep -q "^DIFFERENT" "$log"
