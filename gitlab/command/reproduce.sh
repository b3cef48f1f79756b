#!/usr/bin/env bash
# Shows that the same sources make the same bytes: gitlab/command/reproduce.sh [ARCH…]
#
# Builds what is committed in two folders, each with a cargo home and a target folder of its own, and compares.
set -euo pipefail
cd "$(dirname "$0")/../.."

sources=$PWD
places=$(mktemp -d)
trap 'rm -rf "$places"' EXIT
for place in here there/and/deeper; do
  git clone --quiet "$sources" "$places/$place/slipway"
  (cd "$places/$place/slipway" && CARGO_HOME=$places/$place/cargo gitlab/command/build.sh target/command "$@")
done
diff "$places/here/slipway/target/command/SHA256SUMS" "$places/there/and/deeper/slipway/target/command/SHA256SUMS"
echo "The same bytes in both places."
