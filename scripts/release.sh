#!/usr/bin/env bash
# Checks that this commit can be released as VERSION, then tags it: `make release VERSION=0.2.0`. Uploads nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-}
refuse() {
    echo "no release: $*" >&2
    exit 2
}

[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(rc[0-9]+)?$ ]] || refuse "VERSION is '$version', accepted: such as 0.2.0 or 0.2.0rc1"
grep -qx "__version__ = \"$version\"" src/dropact/__init__.py ||
    refuse "src/dropact/__init__.py has $(grep '^__version__' src/dropact/__init__.py), not \"$version\": commit that first"
grep -qE "^## ${version//./\\.} \([0-9]{4}-[0-9]{2}-[0-9]{2}\)$" CHANGELOG.md ||
    refuse "CHANGELOG.md has no line \"## $version (2026-12-31)\", with its date"
grep -q '^Repository = "https://' pyproject.toml ||
    refuse "pyproject.toml has no Repository in [project.urls]: README's links lead nowhere on a package index"
[ -z "$(git status --porcelain)" ] || refuse "there are uncommitted changes"
! git rev-parse -q --verify "refs/tags/v$version" >/dev/null || refuse "there is a tag v$version already"

make test
make docs
make dist
git tag -a "v$version" -m "dropact $version"
echo "v$version is tagged, dist/ holds what to upload from this platform: git push origin v$version; twine upload dist/*"
