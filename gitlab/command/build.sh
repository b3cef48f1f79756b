#!/usr/bin/env bash
# Builds `slipway` as static programs for x86-64 and arm64: gitlab/command/build.sh [FOLDER] [ARCH…]
#
# The same sources make the same bytes, wherever they are built: paths of the machine are left out, and the compilers are pinned. FOLDER
# (target/command) gets slipway-x86_64, slipway-aarch64 and SHA256SUMS, which go where the inputs `slipway_url` and
# `slipway_sha256_…` of gitlab/slipway.yml say. Needs cargo and python3; it installs cargo-zigbuild and zig below the target folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

folder=${1:-target/command}
shift || true
[ $# -gt 0 ] || set -- x86_64 aarch64
tools=$PWD/target/command-tools
[ -x "$tools/bin/pip" ] || python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check cargo-zigbuild==0.24.0 ziglang==0.17.1
export PATH="$tools/bin:$PATH"

cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
export RUSTFLAGS="--remap-path-prefix=$PWD=/slipway --remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$sysroot=/rust"
export CFLAGS="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$PWD=/slipway"
export SOURCE_DATE_EPOCH=0

mkdir -p "$folder"
for arch in "$@"; do
  target=$arch-unknown-linux-musl
  rustup target list --installed | grep -qx "$target" || rustup target add "$target"
  cargo zigbuild --quiet --locked --release --package slipway-cli --bin slipway --target "$target"
  install -m 755 "target/$target/release/slipway" "$folder/slipway-$arch"
done
(cd "$folder" && sha256sum slipway-* | tee SHA256SUMS)
